"""Closeness of a quantized model's outputs to the float model's, robust to giants and infinities."""

from math import log10

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.quantization.calibration.spread import bulk_bound, octaves_of
from onnxopt.samples import Samples

_MOST_SAMPLES = 16
BEST_DB = 60.0
"""Upper limit: one sample without loss must not outweigh others."""
_WORST_DB = -20.0


class Closeness:
    """Judges quantized forms of one model, sample after sample.

    Args:
        model: the float model.
        samples: samples in batches of one; some of them are used.
    """

    def __init__(self, model: ir.Model, samples: Samples) -> None:
        step = max(len(samples) // _MOST_SAMPLES, 1)
        spread = samples.indices[::step][:_MOST_SAMPLES]
        self._samples = samples.take(_MOST_SAMPLES) if samples.fixed_batch else samples.select(spread)
        session = Session(model, Runtime())
        self._expected = [session.named(feeds) for feeds in self._samples]

    def db(self, candidate: ir.Model, session: Session | None = None) -> float:
        """Return the mean over samples of the signal-to-noise ratio of the worst output, in dB.

        Within an output, giants and other values count separately: the noise of the others would vanish beside the
        giants' power.

        Args:
            candidate: the quantized form.
            session: an open session of it; opened here by default.

        Returns:
            Minus infinity if the candidate cannot be loaded or run.
        """
        try:
            session = session or Session(candidate, Runtime())
            found = [
                min((_db(one, after[name]) for name, one in before.items()), default=BEST_DB)
                for before, after in zip(self._expected, map(session.named, self._samples), strict=True)
            ]
        except (ModelError, NativeError):
            return float("-inf")
        return float(np.mean(found)) if found else BEST_DB


def _db(before: object, after: object) -> float:
    if not (isinstance(before, np.ndarray) and isinstance(after, np.ndarray)) or before.dtype.kind != "f":
        return BEST_DB
    if before.shape != after.shape:
        return _WORST_DB
    known = np.isfinite(before)
    one, other = before[known].astype(np.float64), after[known].astype(np.float64)
    if not one.size:
        return BEST_DB
    bound = bulk_bound(octaves_of(one.astype(np.float32)), float(np.abs(one).max()))
    ordinary = np.abs(one) < bound if bound is not None else None
    both = [_ratio_db(one, other)] + ([] if ordinary is None else [_ratio_db(one[ordinary], other[ordinary])])
    return min(both)


def _ratio_db(signal: np.ndarray, noisy: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        power, noise = float(np.sum(signal**2)), float(np.sum((noisy - signal) ** 2))
    if noise == 0:
        return BEST_DB
    if not np.isfinite(noise) or not power:
        return _WORST_DB
    return min(max(10 * log10(power / noise), _WORST_DB), BEST_DB)
