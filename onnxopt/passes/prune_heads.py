"""Attention heads removed for good."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import onnx_ir as ir
from pydantic import Field

from onnxopt.graph.channels import channels_of
from onnxopt.pipeline import Applied, Context, Effect, Pass
from onnxopt.pruning.prune import limited, prune
from onnxopt.pruning.request import Importance, Request, Scope
from onnxopt.reconstruction.fit import Method


@dataclass(frozen=True)
class PruneHeads(Pass):
    """Remove whole attention heads, and prove that only those went; where heads share keys, with what they share.

    Heads need not be told: they are what an axis of the projections splits into on its way to the scores. Michel et
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
    effect: ClassVar[Effect] = Effect.LOSSY

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.25
    importance: Importance = "auto"
    scope: Scope = "auto"
    compensate: Method = "ls"
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Prune the heads of `model`; says which layers kept all of theirs and why.

        Raises:
            UsageError: ONX102 a name is none of the model's, ONX109 the importance needs samples.
        """
        if self.ratio == 0:
            return Applied(model)
        request = Request(
            ratio=self.ratio,
            importance=self.importance,
            scope=self.scope,
            compensate=self.compensate,
            round_to=1,
            exclude=self.exclude,
            units=("head",),
        )
        return prune(model, limited(context), request, partial(channels_of, part="outer"))
