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
