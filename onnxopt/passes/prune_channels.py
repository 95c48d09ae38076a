"""Structured pruning: removal of channels, neurons and heads."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import onnx_ir as ir
from pydantic import Field

from onnxopt.graph.channels.find import channels_of
from onnxopt.pipeline import Applied, Context, Effect, Pass
from onnxopt.pruning.prune import limited, prune
from onnxopt.pruning.request import Request


@dataclass(frozen=True)
class PruneChannels(Request, Pass):
    """Remove the least important channels, neurons and heads; a proof checks that nothing else changed.

    Each channel is followed through the graph; channels that cannot be followed are skipped. The proof compares the
    smaller model with the original under masks. With calibration samples, the readers of removed channels are refitted
    to compensate for the loss.

        Conv(64) - Relu - Conv   ->   Conv(48) - Relu - Conv

    Attributes:
        samples: largest number of calibration samples.
    """

    name: ClassVar[str] = "prune-channels"
    effect: ClassVar[Effect] = Effect.LOSSY

    samples: Annotated[int, Field(ge=2)] = 256

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Prune `model`; skips name the other groups with reasons.

        Raises:
            UsageError: ONX102 a name is unknown, ONX114 the importance needs samples.
        """
        if self.macs is None and self.latency is None and self.ratio == 0 and not self.ratios:
            return Applied(model)
        return prune(model, limited(context, self.samples), self, channels_of)
