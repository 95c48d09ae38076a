"""Attention heads, or whole groups of grouped convolutions, removed for good."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import onnx_ir as ir
from pydantic import Field

from onnxopt.graph.channels.find import channels_of
from onnxopt.graph.channels.trace import Unit
from onnxopt.pipeline import Applied, Context, Effect, Pass
from onnxopt.pruning.prune import limited, prune
from onnxopt.pruning.request import Importance, Scope, UnitRequest
from onnxopt.reconstruction.fit import Method


@dataclass(frozen=True)
class _PruneWholeUnits(Pass):
    effect: ClassVar[Effect] = Effect.LOSSY
    unit: ClassVar[Unit]

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.25
    importance: Importance = "auto"
    scope: Scope = "auto"
    compensate: Method = "ls"
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Prune the units of `model`; says which layers kept all of theirs and why.

        Raises:
            UsageError: ONX102 a name is none of the model's, ONX109 the importance needs samples.
        """
        if self.ratio == 0:
            return Applied(model)
        request = UnitRequest(
            ratio=self.ratio,
            importance=self.importance,
            scope=self.scope,
            compensate=self.compensate,
            round_to=1,
            exclude=self.exclude,
            unit=self.unit,
        )
        return prune(model, limited(context), request, partial(channels_of, part="outer"))


@dataclass(frozen=True)
class PruneHeads(_PruneWholeUnits):
    """Remove whole attention heads, and prove that only those went; where heads share keys, with what they share.

    Heads are found without options: an axis of the projections splits into them on its way to the scores. Michel et
    al., "Are Sixteen Heads Really Better than One?", NeurIPS 2019.

        MatMul(12 heads) - Reshape - Softmax(Q K) V   ->   MatMul(9 heads) - Reshape - Softmax(Q K) V

    Attributes:
        ratio: share of the heads to remove; of each layer, or of all together with `scope=global`.
        importance: what decides which heads stay; `auto` is `obs` with samples and `l1` without.
        scope: `auto` is `global` with samples and `local` otherwise.
        compensate: how the output projection makes up for lost heads, given samples.
        exclude: names of nodes whose heads stay.
    """

    name: ClassVar[str] = "prune-heads"
    unit: ClassVar[Unit] = "head"


@dataclass(frozen=True)
class PruneGroups(_PruneWholeUnits):
    """Remove whole groups of grouped convolutions, with the channels that feed and leave them, and prove it.

    `prune-channels` chooses between whole groups and channels within each group by what frees most; this pass takes
    groups only.

        Conv(128) - Conv(128, group=32) - Conv   ->   Conv(96) - Conv(96, group=24) - Conv

    Attributes:
        ratio: share of the groups to remove; of each layer, or of all together with `scope=global`.
        importance: what decides which groups stay; `auto` is `obs` with samples and `l1` without.
        scope: `auto` is `global` with samples and `local` otherwise.
        compensate: how the layers that read lost groups make up for them, given samples.
        exclude: names of nodes whose groups stay.
    """

    name: ClassVar[str] = "prune-groups"
    unit: ClassVar[Unit] = "group"
