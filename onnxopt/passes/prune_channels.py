"""Channels removed for good, so that the file and the work shrink."""

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt.graph.channels.find import channels_of
from onnxopt.pipeline import Applied, Context, Effect, Pass
from onnxopt.pruning.protect import Protect
from onnxopt.pruning.prune import limited, prune
from onnxopt.pruning.request import Importance, Normalize, Request, Scope
from onnxopt.reconstruction.fit import Method


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove the least important channels, neurons and heads of every layer, and prove that only those went.

    What belongs to a channel is found by following it through the graph; whatever cannot be followed is left alone.
    The proof runs the original with zeros in place of the channels against the smaller model. With calibration
    samples the layers that read removed channels make up for them.

        Conv(64) - Relu - Conv   ->   Conv(48) - Relu - Conv

    Attributes:
        ratio: share of the channels to remove; of each group, or of all together with `scope=global`.
        macs: share of the multiply-accumulates that may remain; decides instead of `ratio` when given.
        latency: share of the median time that may remain, measured on this machine; decides instead of both.
        importance: what decides which channels stay; `auto` is `obs` with samples and `l1` without. `obs` is what the
            layers that read a channel lose once they have made up for it; `taylor` and `fisher` need torch.
        scope: `local` takes the same share of every group, `global` takes more where less is lost; `auto` is `global`
            with samples or with `macs` or `latency`, and `local` otherwise.
        normalize: how a global choice compares groups: `measured` by what losing some of each does to the outputs,
            given samples; by the `share` of what a group is worth; or as `lamp` does.
        compensate: how layers make up for what they lost, given samples: `ls` by all their weights, `affine` by a
            scale and offset per output, `bias` by the offset alone.
        round_to: channels are kept in multiples of it; `auto` is the width of the target's registers.
        exclude: names of nodes whose channels stay.
        protect: channels that stay because of where they are; when not given, those of the first and last layer and of
            embeddings, unless a global choice has measured what they are worth.
        ratios: `NODE:RATIO` for layers with a share of their own.
        samples: calibration samples to read at most.
    """

    name: ClassVar[str] = "prune-channels"
    effect: ClassVar[Effect] = Effect.LOSSY

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.25
    macs: Annotated[float, Field(gt=0, le=1)] | None = None
    latency: Annotated[float, Field(gt=0, le=1)] | None = None
    importance: Importance = "auto"
    scope: Scope = "auto"
    normalize: Normalize = "measured"
    compensate: Method = "ls"
    round_to: Literal["auto", 1, 2, 4, 8, 16, 32, 64] = "auto"
    exclude: tuple[str, ...] = ()
    protect: tuple[Protect, ...] | None = None
    ratios: tuple[str, ...] = ()
    samples: Annotated[int, Field(ge=2)] = 256

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Prune `model`; says which groups stayed whole and why.

        Raises:
            UsageError: ONX102 a name is none of the model's, ONX109 the importance needs samples.
        """
        if self.macs is None and self.latency is None and self.ratio == 0 and not self.ratios:
            return Applied(model)
        request = Request(**{f.name: getattr(self, f.name) for f in fields(self) if f.name != "samples"})
        return prune(model, limited(context, self.samples), request, channels_of)
