"""Importance scores of channels and weights: plain functions from arrays to scores. Higher is kept.

Scores of channels have shape (channels,); scores of weights have the shape of the weight. Weights may be of any float
type; float16 and bfloat16 are scored in float32.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from onnxopt.errors import UsageError

Seed = int | Sequence[int]


def channel_l1(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the sum of magnitudes of every channel along `axis`: Li et al., "Pruning Filters", ICLR 2017."""
    return np.asarray(np.abs(_channels(weight, axis)).sum(axis=1))


def channel_l2(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the Euclidean norm of every channel along `axis`."""
    return np.asarray(np.linalg.norm(_channels(weight, axis), axis=1))


def channel_linf(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the largest magnitude in every channel along `axis`."""
    return np.asarray(np.abs(_channels(weight, axis)).max(axis=1, initial=0.0))


def channel_random(weight: np.ndarray, axis: int, seed: Seed) -> np.ndarray:
    """Return uniform scores in [0, 1) for the channels along `axis`: the baseline to beat."""
    return np.asarray(np.random.default_rng(seed).random(weight.shape[axis]))


def geometric_median(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the summed distance of every channel along `axis` to all others.

    The channels nearest to the geometric median are the ones that the others can stand in for: He et al., "Filter
    Pruning via Geometric Median", CVPR 2019, in the relaxed form of its section 3.4.
    """
    rows = _channels(weight, axis)
    # One row at a time: all differences at once would need channels times the memory of the weight.
    return np.array([np.linalg.norm(rows - row, axis=1).sum() for row in rows], np.float64)


def batch_norm_scale(scale: np.ndarray) -> np.ndarray:
    """Return the magnitude of a batch normalization's scale, shape (channels,): Liu et al., ICCV 2017."""
    return np.asarray(np.abs(_floats(scale)))


def weight_magnitude(weight: np.ndarray) -> np.ndarray:
    """Return the magnitude of every weight."""
    return np.asarray(np.abs(_floats(weight)))


def weight_random(weight: np.ndarray, seed: Seed) -> np.ndarray:
    """Return uniform scores in [0, 1), and -1 for weights that are zero already: they go first, as nothing is lost."""
    return np.where(weight == 0, -1.0, np.random.default_rng(seed).random(weight.shape))


def wanda(weight: np.ndarray, input_norms: np.ndarray, axis: int) -> np.ndarray:
    """Return |weight| times the norm of the input it is multiplied with: Sun et al., "Wanda", ICLR 2024.

    Args:
        weight: any shape.
        input_norms: Euclidean norm of every input feature over all calibration samples, shape (weight.shape[axis],).
        axis: the axis of `weight` along which the inputs run. Wanda compares within one output, along this axis.
    """
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.asarray(weight_magnitude(weight) * input_norms.reshape(shape))


def lamp(weight: np.ndarray) -> np.ndarray:
    """Return layer-adaptive magnitudes, comparable between layers: Lee et al., "LAMP", ICLR 2021.

    The square of every weight over the sum of squares of all that are at least as large, itself included; in (0, 1],
    and 1 for the largest of each layer. Among equals the earlier one counts as smaller.
    """
    flat = np.abs(weight.astype(np.float64)).ravel()
    scores = np.zeros_like(flat)
    if flat.size and flat.max() > 0:
        order = np.argsort(flat, kind="stable")
        squares = np.square(flat[order] / flat.max())
        rest = np.cumsum(squares[::-1])[::-1]
        scores[order] = squares / rest
    return scores.reshape(weight.shape)


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the mask of the `count` lowest of all `scores`, same shape; among equals the earlier ones."""
    flat = scores.ravel()
    chosen = np.zeros(flat.size, bool)
    if count > 0:
        limit = np.partition(flat, count - 1)[count - 1]
        chosen = flat < limit
        chosen[np.flatnonzero(flat == limit)[: count - int(np.count_nonzero(chosen))]] = True
    return chosen.reshape(scores.shape)


def block_ids(shape: Sequence[int], steps: Mapping[int, int]) -> np.ndarray:
    """Return the number of the block that every element is in, from 0 on, shape `shape`; blocks at the end are cut.

    Args:
        shape: the shape of the weight.
        steps: length of a block along an axis; 1 along those that are not named.
    """
    ids = np.zeros((1,) * len(shape), np.int64)
    for axis, size in enumerate(shape):
        step = steps.get(axis, 1)
        line = (np.arange(size) // step).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        ids = ids * -(-size // step) + line
    return np.broadcast_to(ids, tuple(shape))


def lowest_units(scores: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """Return which units of several elements to remove, lowest first, so that nearest to `count` elements go.

    Args:
        scores: shape (units,).
        sizes: elements of each unit, shape (units,).
        count: the number of elements.
    """
    order = np.argsort(scores, kind="stable")
    totals = np.concatenate(([0], np.cumsum(sizes[order])))
    chosen = np.zeros(scores.size, bool)
    chosen[order[: int(np.argmin(np.abs(totals - count)))]] = True
    return chosen


def lowest_n_of_m(scores: np.ndarray, axis: int, keep: int, group: int) -> np.ndarray:
    """Return a mask of elements to remove: at most `keep` of every `group` neighbours along `axis` stay.

    A last group that is shorter keeps `keep` too, as if it were filled up with zeros.
    """
    rows = np.moveaxis(scores, axis, -1)
    length = rows.shape[-1]
    # What fills up the last group is removed first, so that nothing more than needed is taken from the rest.
    padded = np.full((*rows.shape[:-1], -(-length // group) * group), -np.inf)
    padded[..., :length] = rows
    groups = padded.reshape(*rows.shape[:-1], -1, group)
    order = np.argsort(groups, axis=-1, kind="stable")
    removed = np.zeros(groups.shape, bool)
    np.put_along_axis(removed, order[..., : group - keep], True, axis=-1)
    return np.moveaxis(removed.reshape(padded.shape)[..., :length], -1, axis)


def gradual_ratios(start: float, end: float, rounds: int) -> tuple[float, ...]:
    """Return the ratio of each of `rounds` rounds, steep first and flat at `end`, for pruning with recovery between.

    Cubic schedule of Zhu and Gupta, "To prune, or not to prune", 2017. `start` is what has been removed before the
    first round; the last ratio is `end` exactly.

    Raises:
        UsageError: ONX101 no 0 <= start <= end <= 1, or no round.
    """
    if not 0 <= start <= end <= 1:
        raise UsageError(
            "ONX101", "ratios make no schedule", why=f"{start} to {end}", hint="Use 0 <= start <= end <= 1."
        )
    if rounds < 1:
        raise UsageError("ONX101", "a schedule needs a round", why=f"{rounds} rounds", hint="Use 1 or more.")
    return tuple(end + (start - end) * (1 - done / rounds) ** 3 for done in range(1, rounds + 1))


def _channels(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return float64 rows, one per channel: sums over a channel must not depend on how numpy splits them."""
    rest = weight.size // max(weight.shape[axis], 1)
    return np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], rest)


def _floats(array: np.ndarray) -> np.ndarray:
    # numpy's sorting and comparing of bfloat16 is slow, and of float16 slower than of float32; the order is the same.
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array
