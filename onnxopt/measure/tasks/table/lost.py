"""Detection of classes that a candidate loses although most samples keep their class."""

import numpy as np

from onnxopt.samples.core import Array

OFTEN = 8
"""Fewest samples for a class or column to be judged on its own: with fewer, one difference may be chance."""
LOST = 0.45
"""Smallest lost share of a class's samples, or smallest error of its scores relative to their spread, of a lost class.

Scores scaled by 1.5 have an error of half of their spread or more. In INT8 the error of the worst class of ResNet-20 on
CIFAR-10 is 5 %, that of MobileNetV2 on ImageNet 21 %.
"""
_FAINT = 0.02
"""Smallest spread of a column of scores, relative to the largest: smaller ones decide no answer."""
_ENOUGH_COLUMNS = 20
"""Fewest columns for an outlier to be defined."""
_STEPS = 8
"""Steps of a quantized Softmax above which rounding is at most a sixteenth."""
_LEAST_SPREAD = 0.1
"""Smallest spread in nats of a log-probability over samples that shows whether it follows the baseline."""
_OUTSTANDING = 3.0
"""Ratio of an outlier's error to the error of nine in ten columns: a common shift is no loss of a single class."""

_FACTOR = 0.3
"""Smallest shift of a logarithm for a column to count as scaled: a factor of 1.35."""
_SCATTER = 0.2
"""Ratio of the squared shift's spread to its mean above which the shift is not constant."""


def lost_class(classes: Array, same: Array) -> float:
    """Return the largest share of a class's samples that get another class, if it exceeds `LOST`; else 0.

    Args:
        classes: class of the baseline per sample; NaN for none.
        same: whether the candidate gives the same class.
    """
    known = ~np.isnan(classes)
    _, number, count = np.unique(classes[known], return_inverse=True, return_counts=True)
    if not len(count):
        return 0.0
    lost = 1 - np.bincount(number, weights=same[known]) / count
    worst = float(lost[count >= OFTEN].max(initial=0))
    return worst if worst >= LOST else 0.0


def lost_column(rows: Array) -> float:
    """Return the largest error of a column relative to its spread, if it exceeds `LOST`; else 0.

    A column counts only if enough samples determine its spread; the others are counted together.
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
    """Return logarithms of probabilities, no lower than a few times the smallest of the candidate `other`.

    A quantized Softmax gives 0 below its step and rounds small values: that is its resolution, not the loss of a class.
    """
    shown = other[other > 0]
    least = _STEPS * float(shown.min()) if shown.size else float(np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(one, least)), np.log(np.maximum(other, least))


def lost_faint(rows: Array) -> float:
    """Return the error of the worst column of logarithms relative to its spread, at most 1, if it is an outlier.

    Of a thousand classes most are never the answer, and their probabilities are negligible. Their logarithms show
    whether they still follow the baseline. The noise of quantization is similar in all columns, so only a column far
    above nine in ten of the others is lost.

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
    """Return the relative error of the column that a constant factor changes most, if it is an outlier; else 0.

    A factor shifts the logarithm equally for every sample. Noise of quantization varies between samples, and another
    temperature shifts all columns.

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
