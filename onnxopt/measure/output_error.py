"""The error of a changed model's outputs, relative to the variance of the original's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.measure.changed import ChangedOutputs
from onnxopt.measure.metrics.outputs import are_probabilities
from onnxopt.samples import Samples

_SAMPLES = 64
_ROUNDING = 1e-11
"""Error of float32 arithmetic if a graph is cut at another place."""


def relative_power(error: float, signal: float) -> float:
    """Return the power of an error relative to that of a signal; infinite if the error is not finite."""
    return error / max(signal, 1e-30) if np.isfinite(error) else float("inf")


class OutputError:
    """Error of a changed model's outputs relative to their variance, on a few samples with finite outputs."""

    def __init__(self, model: ir.Model, samples: Samples) -> None:
        self._changed = ChangedOutputs(model, samples.take(min(_SAMPLES, len(samples))))
        self._outputs = list(map(_compared, self._changed.original))
        together = (np.concatenate(parts) for parts in zip(*self._outputs, strict=True))
        self._scales = [_scale(every) for every in together]

    def of(self, model: ir.Model) -> float:
        """Return the mean squared difference over variance, averaged over the float outputs.

        In a model without float outputs it is the share of elements that differ. The result is 0 for rounding errors,
        and infinite if the changed model gives NaN or other shapes, or if there is nothing to compare.
        """
        total, count = 0.0, 0
        for mine, theirs in zip(map(_compared, self._changed.of(model)), self._outputs, strict=True):
            for one, other, scale in zip(mine, theirs, self._scales, strict=True):
                if one.shape != other.shape:
                    return float("inf")
                if scale is None:
                    total += float(np.sum(one != other))
                    count += other.size
                    continue
                known = np.isfinite(other)
                total += relative_power(float(np.square(one[known] - other[known]).sum()), scale)
                count += int(known.sum())
        if not count or not np.isfinite(total):
            return float("inf")
        error = total / count
        return error if error > _ROUNDING else 0.0


def _scale(every: np.ndarray) -> float | None:
    """Return the variance of an output's finite values; None for other types than floats."""
    if every.dtype.kind != "f":
        return None
    finite = every[np.isfinite(every)]
    return max(float(np.var(finite)), 1e-30) if finite.size else 1.0


def _compared(outputs: Sequence[Any]) -> list[np.ndarray]:
    arrays = [a for a in outputs if isinstance(a, np.ndarray)]
    floats = [a for a in arrays if a.dtype.kind == "f"]
    return [_logits(a.astype(np.float64)).reshape(-1) for a in floats] or [a.reshape(-1) for a in arrays]


def _logits(array: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities: a confident answer hardly changes as a probability before it is lost."""
    if array.ndim < 2 or array.shape[-1] < 2 or not are_probabilities(array):
        return array
    logs = np.log(array + 1e-6)
    return np.asarray(logs - logs.mean(-1, keepdims=True))
