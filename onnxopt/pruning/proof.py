"""Proof of a removal of units: the original with masked units gives the same outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt.errors import ModelError, OnnxoptError
from onnxopt.graph.channels.cut import Kept, cut_channels, mask_channels
from onnxopt.graph.channels.find import Channels
from onnxopt.measure.equivalence import largest_difference, runnable
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.samples import Feeds, Samples

PROVED_RELATIVE = 1e-4
"""Largest difference between the smaller model and the original with masked channels."""


@dataclass(frozen=True)
class ChannelProof:
    """A smaller model, or None where nothing could be proved.

    Attributes:
        kept: the units that stay in the groups that are smaller.
        difference: largest, relative to each output's largest magnitude.
        refused: per group that stays whole, why.
    """

    model: ir.Model | None
    kept: Kept
    difference: float
    refused: Mapping[str, str]


def proof_batches(channels: Channels, samples: Samples | None) -> list[Feeds]:
    """Return inputs to prove on: made-up ones at several sizes and the first batch of samples, where the model runs."""
    return runnable(channels.model, signature_of(channels.model), list(_batches(channels, samples)))


def _batches(channels: Channels, samples: Samples | None) -> Iterator[Feeds]:
    signature = signature_of(channels.model)
    first, second = channels.trace.first.fed, channels.trace.second.fed
    # Some models declare a free batch and run at one only.
    single = {name: (1, *shape[1:]) if shape != second[name] else shape for name, shape in first.items()}
    for seed, fed in enumerate((first, second, single)):
        specs = tuple(replace(spec, shape=fed.get(spec.name, spec.shape)) for spec in signature.inputs)
        yield probe_feeds(replace(signature, inputs=specs), seed=seed)
    if samples is not None:
        yield next(iter(samples))


def cut_and_prove(channels: Channels, kept: Kept, batches: list[Feeds]) -> ChannelProof:
    """Return the model without the units that are not in `kept`; a group that cannot be proved stays whole."""
    model, difference, reason = _attempt(channels, kept, batches)
    if model is not None or not kept:
        return ChannelProof(model, kept, difference, {})
    if len(kept) == 1:
        return ChannelProof(None, {}, 0.0, dict.fromkeys(kept, reason))
    proved, refused, best, worst = dict[str, Sequence[int]](), dict[str, str](), None, 0.0
    for name, units in kept.items():
        model, difference, reason = _attempt(channels, {**proved, name: units}, batches)
        if model is None:
            refused[name] = reason
        else:
            proved[name], best, worst = units, model, difference
    return ChannelProof(best, proved, worst, refused)


def _attempt(channels: Channels, kept: Kept, batches: list[Feeds]) -> tuple[ir.Model | None, float, str]:
    """Return the smaller model and the difference, or None and why it is not to be trusted."""
    try:
        smaller = cut_channels(channels, kept)
        difference = largest_difference(mask_channels(channels, kept), smaller, batches)
    except ModelError as error:
        return None, 0.0, f"not removed: {error.where} {error.why or error.what}".replace("\n", " ")
    except OnnxoptError as error:
        return None, 0.0, f"not removed: {error.why or error.what}".replace("\n", " ")
    if not difference <= PROVED_RELATIVE:
        return None, difference, f"not removed: the outputs differ from the masked model by {difference:.1e}"
    return smaller, difference, ""
