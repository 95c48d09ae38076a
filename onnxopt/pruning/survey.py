"""Output loss of every channel group at several shares, measured before any decision."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt.graph.channels.cut import cut_channels
from onnxopt.graph.channels.find import Channels, channels_of, normalized
from onnxopt.options.search import Protect
from onnxopt.pipeline import Context
from onnxopt.pruning.plan import Choices, choices
from onnxopt.pruning.proof import proof_batches
from onnxopt.pruning.prune import limited, note_types, unprovable
from onnxopt.pruning.request import Request
from onnxopt.reconstruction.batches import rebatched
from onnxopt.reconstruction.layers import drop_zero_biases, with_biases


@dataclass(frozen=True)
class Survey:
    """Channel groups of a model with their importance, measured at the outputs.

    Attributes:
        biases: the biases of zeros that layers were given.
    """

    channels: Channels
    choices: Choices
    biases: frozenset[str]

    def kept(self, share: float) -> Mapping[str, tuple[int, ...]]:
        """Return the remaining units of each group after removing at most `share`; untouched groups are left out."""
        request = replace(self.choices.request, scope="local", ratio=share)
        return replace(self.choices, request=request).plan(None).kept

    def cut(self, share: float) -> ir.Model:
        """Return the model without at most `share` of each group; of the right size, but without compensation.

        Raises:
            ModelError: ONX305 these groups cannot be cut together.
        """
        model = cut_channels(self.channels, self.kept(share))
        drop_zero_biases(model, set(self.biases))
        return model

    def loss(self, group: str, kept: int) -> float:
        """Return the error of the outputs, relative to their variance, when that many units of one group stay."""
        losses = self.choices.rankings[group].losses
        removed = len(losses) + 1 - kept
        return float(losses[removed - 1]) if removed else 0.0


def survey(model: ir.Model, context: Context, protect: tuple[Protect, ...] = ()) -> Survey:
    """Measure the importance of the channels of `model`.

    Args:
        model: the input model (not modified).
        context: a context with at least two calibration samples.
        protect: groups that stay whole because of where they are.
    """
    work, context = normalized(model), limited(context)
    samples = rebatched(model, context.calibration)
    request = Request(scope="global", protect=protect).settled(samples)
    biases = frozenset(with_biases(work))
    channels = channels_of(work)
    note_types(channels)
    refused = unprovable(channels, proof_batches(channels, samples))
    return Survey(channels, choices(channels, request, context, samples, refused), biases)
