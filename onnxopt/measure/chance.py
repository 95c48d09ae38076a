"""The score of answers that have nothing to do with the inputs: no file at that level is of use."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.fidelity import powers, run_both, sample_count, tensors
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Session
from onnxopt.samples import Batch, Samples

MOST_SAMPLES = 64
"""Samples that the level is measured on."""


@dataclass(frozen=True)
class Chance:
    """Agreement of the baseline's answers for one sample with its answers for another.

    Attributes:
        agreement: the agreement by the comparison, 0 or more; NaN without two samples of one shape.
        variance: per float output that varies, half the mean squared difference of two samples.
    """

    agreement: float
    variance: Mapping[str, float]

    def skill(self, score: float) -> float:
        """Return the agreement beyond chance: 1 for equal answers, 0 for answers that ignore the inputs.

        Returns:
            NaN if that cannot be said, because the answers hardly differ between the samples.

        Source: Cohen, "A coefficient of agreement for nominal scales", 1960.
        """
        room = 1 - self.agreement
        return (score - self.agreement) / room if room > _LEAST_ROOM else math.nan


_LEAST_ROOM = 0.02


def chance_of(baseline: KnownOutputs, comparison: Comparison, samples: Samples) -> Chance:
    """Compare the baseline's outputs for each sample with those for an earlier sample of the same shape.

    Raises:
        NativeError: ONX401 the baseline cannot be run.
    """

    def work() -> Chance:
        rows, squares = list[np.ndarray](), defaultdict[str, list[float]](list)
        for batch, before, other in _pairs(baseline, few(samples)):
            size = sample_count(batch)
            rows.append(comparison.compare(before, other, size, batch.feeds))
            for name, error in _errors(before, other, size).items():
                squares[name].append(error / 2)
        agreement = max(comparison.value(np.concatenate(rows)), 0.0) if rows else math.nan
        variance = {name: float(np.mean(some)) for name, some in squares.items()}
        return Chance(agreement, {name: one for name, one in variance.items() if one > 0 and math.isfinite(one)})

    return interruptible(work)


def explained(baseline: KnownOutputs, candidate: Session, samples: Samples, chance: Chance) -> float:
    """Return the share of the baseline's variance that a candidate reproduces, of the worst output; NaN without any.

    1 for equal outputs, 0 for the constant that fits best, -1 for the outputs of other samples.

    Raises:
        ModelError: ONX308 the outputs differ in name.
        NativeError: ONX401 a model cannot be run.
    """

    def work() -> float:
        squares = defaultdict[str, list[float]](list)
        for batch, before, after in run_both(baseline, candidate, few(samples)):
            for name, error in _errors(before, after, sample_count(batch)).items():
                squares[name].append(error)
        shares = [1 - float(np.mean(squares[name])) / one for name, one in chance.variance.items() if squares[name]]
        return min(shares, default=math.nan)

    return interruptible(work)


def few(samples: Samples) -> Samples:
    """Return the first samples, one at a time, so that pairs are of two samples."""
    return samples.with_batch_size(1).take(MOST_SAMPLES)


def _pairs(baseline: KnownOutputs, samples: Samples) -> Iterator[tuple[Batch, Outputs, Outputs]]:
    last = dict[tuple[object, ...], Outputs]()
    for batch, outputs in run_batches(baseline, samples):
        shapes = tuple(np.shape(value) for value in outputs.values())
        if shapes in last:
            yield batch, outputs, last[shapes]
        last[shapes] = outputs


def _errors(before: Outputs, after: Outputs, size: int) -> dict[str, float]:
    """Return the mean squared difference per sample of each float output, summed over its elements."""
    pairs = {name: tensors(name, before, after, size) for name in before}
    return {name: float(powers(*pair)[1].mean()) for name, pair in pairs.items() if pair is not None}
