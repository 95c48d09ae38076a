"""Closeness of a quantized model's outputs to the float model's, robust to giants and infinities."""

from collections.abc import Callable, Mapping, Sequence
from math import inf, log10

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.quantization.calibration.spread import bulk_bound, octaves_of
from onnxopt.samples import Feeds, Samples

_MOST_SAMPLES = 16
BEST_DB = 60.0
"""Upper limit: one sample without loss must not outweigh others."""
_WORST_DB = -20.0


Ratios = Sequence[Sequence[float]]
"""Signal-to-noise ratios in dB: for each sample, those of the parts of its outputs."""
Outputs = Callable[[Samples], Sequence[Mapping[str, object]]]
"""Runs a model on samples."""


class Closeness:
    """Judges quantized forms of one model, sample after sample.

    Args:
        model: the float model.
        samples: samples in batches of one; some of them are used.
        outputs: gives the outputs of the model by name, sample after sample, from a session that is open already;
            opened here by default.
    """

    def __init__(self, model: ir.Model, samples: Samples, outputs: Outputs | None = None) -> None:
        step = max(len(samples) // _MOST_SAMPLES, 1)
        spread = samples.indices[::step][:_MOST_SAMPLES]
        self._samples = samples.take(_MOST_SAMPLES) if samples.fixed_batch else samples.select(spread)
        self._expected = (outputs or _outputs_of(Session(model, Runtime())))(self._samples)

    def db(self, candidate: ir.Model, session: Session | None = None) -> float:
        """Return the mean over samples of the signal-to-noise ratio of the worst output, in dB.

        Args:
            candidate: the quantized form.
            session: an open session of it; opened here by default.

        Returns:
            Minus infinity if the candidate cannot be loaded or run.
        """
        try:
            session = session or Session(candidate, Runtime())
        except ModelError:
            return -inf
        return mean_db(self.ratios(session))

    def ratios(self, session: Session) -> Ratios:
        """Return the signal-to-noise ratios of all parts of the outputs in dB, sample after sample.

        Within an output, giants and other values count separately: the noise of the others would vanish beside the
        giants' power.

        Args:
            session: an open session of the quantized form; minus infinity where it cannot be run.
        """
        both = zip(self._expected, self._samples, strict=True)
        return [self._of_one(session, before, feeds) for before, feeds in both]

    def _of_one(self, session: Session, before: Mapping[str, object], feeds: Feeds) -> list[float]:
        try:
            after = session.named(feeds)
        except NativeError:
            return [-inf]
        return [db for name, one in before.items() for db in _dbs(one, after[name])]


def _outputs_of(session: Session) -> Outputs:
    return lambda samples: [session.named(feeds) for feeds in samples]


def mean_db(ratios: Ratios) -> float:
    """Return the mean over samples of the lowest ratio."""
    return float(np.mean([min((*ones, BEST_DB)) for ones in ratios])) if ratios else BEST_DB


def reachable_db(ratios: Ratios, part: Ratios) -> float:
    """Return the largest `mean_db` that the removal of a part of the noise can give.

    Noise of `n` in all and `p` in the part is at least `n - p` without it, however both are correlated.

    Args:
        ratios: those of a quantized form.
        part: those of a form in which only a part of the nodes is quantized, in the same way.
    """
    return mean_db([list(map(_without, one, other)) for one, other in zip(ratios, part, strict=True)])


def _without(db: float, part_db: float) -> float:
    rest = 10 ** (-db / 20) - 10 ** (-part_db / 20)
    return -20 * log10(rest) if rest > 0 else inf


def _dbs(before: object, after: object) -> list[float]:
    if not (isinstance(before, np.ndarray) and isinstance(after, np.ndarray)) or before.dtype.kind != "f":
        return [inf]
    known = np.isfinite(before)
    one = before[known].astype(np.float64)
    if not one.size:
        return [inf]
    bound = bulk_bound(octaves_of(one.astype(np.float32)), float(np.abs(one).max()))
    ordinary = np.abs(one) < bound if bound is not None else None
    if before.shape != after.shape:
        return [_WORST_DB] if ordinary is None else [_WORST_DB, _WORST_DB]
    other = after[known].astype(np.float64)
    return [_ratio_db(one, other)] + ([] if ordinary is None else [_ratio_db(one[ordinary], other[ordinary])])


def _ratio_db(signal: np.ndarray, noisy: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        power, noise = float(np.sum(signal**2)), float(np.sum((noisy - signal) ** 2))
    if noise == 0:
        return inf
    if not np.isfinite(noise) or not power:
        return _WORST_DB
    return max(10 * log10(power / noise), _WORST_DB)
