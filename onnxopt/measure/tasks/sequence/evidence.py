"""Evidence for sequences: the batch axis and the blank class."""

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, is_float, misfit
from onnxopt.samples.core import Array

BLANK_SHARE = 0.3
"""Smallest share of steps for the first or last class to count as the blank of CTC."""


def batch_axis_of(shape: tuple[int, ...], size: int, declared: tuple[int | str | None, ...] | None) -> int:
    """Return which of the first two axes of `(., ., classes)` is the batch of `size` samples.

    If both have this length, the batch is the dynamic one if the graph fixes the other; else the first.
    """
    if len(shape) < 3 or (shape[0] == size) != (shape[1] == size):
        return int(len(shape) >= 3 and shape[1] == size)
    free = [not isinstance(d, int) for d in (declared or ())[:2]]
    return int(free == [False, True])


def blank_of(given: int | None, steps: Array, classes: int, least: float = BLANK_SHARE) -> int | None:
    """Return the blank's index: the user's, or the first or last class, whichever more steps have; None for no CTC.

    Args:
        given: the user's index; -1 for scores without CTC.
        steps: classes of the baseline's steps `(n, steps)`.
        classes: number of classes.
        least: smallest share of steps of a blank; 0 if other evidence shows CTC.

    Raises:
        DataError: ONX209 the user's index is not a class.
    """
    if given is not None:
        if given >= classes or given < -1:
            raise misfit(f"blank {given} of {classes} classes", "Give --blank from 0, or -1 for none.", where="blank")
        return None if given < 0 else given
    shares = {index: float(np.mean(steps == index)) for index in (0, classes - 1)}
    best = max(shares, key=lambda index: shares[index])
    return best if shares[best] >= least else None


def steps_output(outputs: Outputs) -> str:
    """Return the first output that holds scores of steps, or classes of steps.

    Raises:
        DataError: ONX209 there is none.
    """
    for name, value in outputs.items():
        if is_float(value) and value.ndim == 3:
            return name
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim == 2:
            return name
    raise misfit("no output holds scores of steps", f"Outputs: {', '.join(outputs)}.", where="sequence")
