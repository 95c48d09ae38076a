"""Structured pruning of attention heads and of groups of grouped convolutions."""

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
        """Prune the units of `model`; skips name the other layers with reasons.

        Raises:
            UsageError: ONX102 a name is unknown, ONX114 the importance needs samples.
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
    """Remove the least important attention heads; a proof checks that nothing else changed.

    Heads that share keys and values are removed together with them. Heads are found without options: an axis of the
    projections splits into heads on its way to the scores. Michel et al., "Are Sixteen Heads Really Better than One?",
    NeurIPS 2019.

        MatMul(12 heads) - Reshape - Softmax(Q K) V   ->   MatMul(9 heads) - Reshape - Softmax(Q K) V

    Attributes:
        ratio: share of the heads to remove, per layer, or in total with `scope=global`.
        importance: score per head; `auto` = `obs` with samples, `l1` without.
        scope: `auto` = `global` with samples, else `local`.
        compensate: refit of the output projection (needs samples).
        exclude: names of nodes whose heads are not removed.
    """

    name: ClassVar[str] = "prune-heads"
    unit: ClassVar[Unit] = "head"


@dataclass(frozen=True)
class PruneGroups(_PruneWholeUnits):
    """Remove whole groups of grouped convolutions with their input and output channels; a proof checks the result.

    `prune-channels` chooses between whole groups and channels within each group by the saved work; this pass removes
    groups only.

        Conv(128) - Conv(128, group=32) - Conv   ->   Conv(96) - Conv(96, group=24) - Conv

    Attributes:
        ratio: share of the groups to remove, per layer, or in total with `scope=global`.
        importance: score per group; `auto` = `obs` with samples, `l1` without.
        scope: `auto` = `global` with samples, else `local`.
        compensate: refit of the readers of removed groups (needs samples).
        exclude: names of nodes whose groups are not removed.
    """

    name: ClassVar[str] = "prune-groups"
    unit: ClassVar[Unit] = "group"
