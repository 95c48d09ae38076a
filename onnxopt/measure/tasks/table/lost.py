"""Classes that a candidate loses although most samples keep their answer."""

import numpy as np

from onnxopt.measure.tasks.table.columns import Array

OFTEN = 8
"""Samples from which a class or a column is judged by itself: one that differs is then no accident."""
LOST = 0.45
"""Share of a class's samples, or error of its scores over their spread, from which it counts as lost.

Scores that are scaled by 1.5 are off by half of their spread or more. In INT8 the worst class of ResNet-20 on CIFAR-10
is off by 5 %, that of MobileNetV2 on ImageNet by 21 %.
"""
_FAINT = 0.02
"""Spread that a column of scores has at least, as a share of the largest: fainter ones decide nothing."""
_ENOUGH_COLUMNS = 20
"""Columns from which one can stand out among the others."""
_STEPS = 8
"""Of a quantized Softmax, from which rounding is no more than a sixteenth."""
_LEAST_SPREAD = 0.1
"""Nats by which a probability must vary from sample to sample for its course to be followed."""
_OUTSTANDING = 3.0
"""Times the error of nine in ten columns that one stands out with: a common shift is none of a single class."""

_FACTOR = 0.3
"""Shift of a logarithm, by a factor of 1.35, from which a column may count as scaled."""
_SCATTER = 0.2
"""Spread of the squared shift over its mean, above which the shift is no constant."""


def lost_class(classes: Array, same: Array) -> float:
    """Return the largest share of a class's samples that are given another one, where it is more than `LOST`.

    Args:
        classes: of the baseline, by sample; NaN for none.
        same: whether the candidate gives the same.
    """
    known = ~np.isnan(classes)
    _, number, count = np.unique(classes[known], return_inverse=True, return_counts=True)
    if not len(count):
        return 0.0
    lost = 1 - np.bincount(number, weights=same[known]) / count
    worst = float(lost[count >= OFTEN].max(initial=0))
    return worst if worst >= LOST else 0.0


def lost_column(rows: Array) -> float:
    """Return the largest error of a column over its spread, of `column_rows`, where it is more than `LOST`.

    A column counts only where enough samples make its spread; the others are counted together.
    """
    error, mean, square = np.split(rows, 3, axis=1)
    usable = np.isfinite(error).all(axis=1)
    error, mean, square = error[usable], mean[usable], square[usable]
    if not len(error):
        return 0.0
    center = mean.mean(axis=0)
    spread = np.maximum(square - 2 * mean * center + center**2, 0)
    total = spread.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.nan_to_num(total**2 / (spread**2).sum(axis=0))
    often = effective >= OFTEN
    least = _FAINT**2 * total.max(initial=0)
    pooled = np.append(error[:, often].sum(axis=0), error[:, ~often].sum())
    spreads = np.maximum(np.append(total[often], total[~often].sum()), least)
    ratios = np.sqrt(pooled[spreads > 0] / spreads[spreads > 0])
    worst = float(ratios.max(initial=0))
    return worst if worst >= LOST else 0.0


def log_shares(one: Array, other: Array) -> tuple[Array, Array]:
    """Return logarithms of probabilities, no lower than a few times the smallest that the candidate `other` shows.

    A quantized Softmax gives 0 for whatever is below its step, and rounds whatever is near: that is its resolution,
    and no loss of a class.
    """
    shown = other[other > 0]
    least = _STEPS * float(shown.min()) if shown.size else float(np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(one, least)), np.log(np.maximum(other, least))


def lost_faint(rows: Array) -> float:
    """Return the error of the worst column of logarithms over its spread, 1 at most, where it stands out; else 0.

    Among a thousand classes most are never the answer, and as probabilities they are nothing beside the others. Their
    logarithms tell whether they still follow the baseline. The noise of quantization is alike in all columns, so only
    one that is far above nine in ten of them is lost.

    Args:
        rows: `column_rows` of `log_shares`.
    """
    error, mean, square = np.split(rows, 3, axis=1)
    usable = np.isfinite(error).all(axis=1)
    error, mean, square = error[usable], mean[usable], square[usable]
    if error.shape[1] < _ENOUGH_COLUMNS or len(error) < OFTEN:
        return 0.0
    center = mean.mean(axis=0)
    spread = np.maximum(square - 2 * mean * center + center**2, 0)
    total = spread.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        often = np.nan_to_num(total**2 / (spread**2).sum(axis=0)) >= OFTEN
    varies = often & (total > _LEAST_SPREAD**2 * len(error))
    ratios = np.sqrt(error.sum(axis=0)[varies] / total[varies])
    if len(ratios) < _ENOUGH_COLUMNS:
        return 0.0
    worst = float(ratios.max())
    return min(worst, 1.0) if worst >= max(LOST, _OUTSTANDING * float(np.quantile(ratios, 0.9))) else 0.0


def scaled_faint(rows: Array) -> float:
    """Return by how much the worst column of logarithms is a constant factor off, where it stands out; else 0.

    A factor moves the logarithm by the same amount for every sample. Noise of quantization scatters from sample to
    sample, and another temperature moves all columns.

    Args:
        rows: `column_rows` of `log_shares`.
    """
    error = np.split(rows, 3, axis=1)[0]
    error = error[np.isfinite(error).all(axis=1)]
    if error.shape[1] < _ENOUGH_COLUMNS or len(error) < OFTEN:
        return 0.0
    mean, scatter = error.mean(axis=0), error.std(axis=0)
    shift = np.sqrt(mean)
    constant = (shift >= _FACTOR) & (scatter <= _SCATTER * mean)
    worst = float(shift[constant].max(initial=0))
    return min(float(np.expm1(worst)), 1.0) if worst >= _OUTSTANDING * float(np.quantile(shift, 0.9)) else 0.0
