"""The batches on which a search times models: sequences as long as the data's, or of given lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.measure.generation.lengths import length_batches
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.lengths import lengths_of
from onnxopt.samples import Feeds, Samples
from onnxopt.search.parts import typical_feeds
from onnxopt.search.settings import Settings


@dataclass(frozen=True)
class TimedBatches:
    """The batches on which a search times models.

    Attributes:
        typical: one batch of median size; of given lengths, that with the most steps in all runs together.
        alternating: those of a measurement, each length as often as its share.
        by_length: a batch of each length, with its share of the runs; one without given lengths.
    """

    typical: Feeds
    alternating: tuple[Feeds, ...]
    by_length: tuple[tuple[Feeds, float], ...]


def timed_batches(samples: Samples, model: ir.Model, settings: Settings) -> TimedBatches:
    """Return the batches for timing.

    Args:
        samples: the data.
        model: the baseline; one with a cache is run over the data for its values.
        settings: `batch_size`, `hot`, `sequence` and `runtime` of the search.

    Raises:
        UsageError: ONX112 `sequence` is given, and does not hold for the model (`length_batches`).
        DataError, ModelError, NativeError: the lengths cannot be made of the data.
    """
    typical = typical_feeds(samples, settings.batch_size)
    drawn = (typical,) if settings.hot else drawn_inputs(samples, settings.batch_size)
    if settings.sequence is None:
        return TimedBatches(typical, drawn, ((typical, 1.0),))
    shares = lengths_of(settings.sequence)
    made = length_batches(model, drawn, typical, shares, settings.runtime)
    longest = max(shares, key=lambda length: length * shares[length])
    pairs = tuple((made.by_length[length], share) for length, share in shares.items())
    return TimedBatches(made.by_length[longest], made.alternating, pairs)


def called_at(
    by_length: Sequence[tuple[Feeds, float]],
    whole_ms: Mapping[str, float],
    models: Mapping[str, ir.Model],
    runtime: Runtime,
    seconds: float,
) -> list[dict[str, float]]:
    """Return the milliseconds of models at each length, whose weighted sum is the time as called.

    Args:
        by_length: a batch of each length, with its share of the runs.
        whole_ms: the mean time of a run as called, by model.
        models: the models.
        runtime: configuration of ONNX Runtime, with which lengths are timed on this machine.
        seconds: time for that.
    """
    if len(by_length) == 1:
        return [dict(whole_ms)]
    each = seconds / len(by_length)
    timed = [measure_latency(models, [feeds], runtime, seconds=each) for feeds, _ in by_length]
    sums = {
        name: sum(share * found[name].p50_ms for found, (_, share) in zip(timed, by_length, strict=True))
        for name in models
    }
    return [{name: found[name].p50_ms * whole_ms[name] / sums[name] for name in models} for found in timed]
