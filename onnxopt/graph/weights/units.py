"""Units of weight pruning: single elements, n of m neighbours or blocks; and the choice of the lowest scores."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxopt import importance
from onnxopt.graph.weights.sparsity import Axes


@dataclass(frozen=True)
class Pattern:
    """Places of zeros: anywhere, all but `first` of `second` neighbours, or blocks of outputs x inputs."""

    kind: Literal["unstructured", "n:m", "block"] = "unstructured"
    first: int = 1
    second: int = 1

    @classmethod
    def parse(cls, text: str) -> "Pattern | None":
        """Read `unstructured`, `2:4` or `4x1`; None where it is none of these."""
        if text == "unstructured":
            return cls()
        match = re.fullmatch(r"([1-9]\d{0,3})([:x])([1-9]\d{0,3})", text)
        if match is None or (match[2] == ":" and int(match[1]) >= int(match[3])):
            return None
        return cls("n:m" if match[2] == ":" else "block", int(match[1]), int(match[3]))

    @property
    def ratio(self) -> float | None:
        """The ratio that follows from the pattern; None if it implies none."""
        return 1 - self.first / self.second if self.kind == "n:m" else None

    def obstacle(self, array: np.ndarray, axes: Axes | None) -> str:
        """Return the reason why a weight cannot have this pattern; empty if it can."""
        if not array.size:
            return "its weight is empty"
        if not np.isfinite(array).all():
            return "its weight holds NaN or infinite values"
        if self.kind == "unstructured":
            return ""
        if axes is None or axes.inputs is None or (self.kind == "block" and axes.outputs is None):
            return "a pattern along its inputs has no meaning: its weight is grouped, reshaped or shared"
        if self.kind == "n:m" and array.shape[axes.inputs] <= self.first:
            return f"it has {array.shape[axes.inputs]} inputs per output, of which {self.first} stay"
        return ""

    def lowest(self, scores: np.ndarray, axes: Axes) -> np.ndarray:
        """Return a mask of the elements to remove for n of m along the inputs."""
        assert axes.inputs is not None
        return importance.lowest_n_of_m(scores, axes.inputs, self.first, self.second)


@dataclass(frozen=True)
class Units:
    """The scores of a weight's units; for blocks, their sizes and the block of each element."""

    scores: np.ndarray
    sizes: np.ndarray | None = None
    ids: np.ndarray | None = None

    @property
    def elements(self) -> int:
        """Number of elements in the weight."""
        return self.scores.size if self.ids is None else self.ids.size


def units_of(scores: np.ndarray, axes: Axes | None, pattern: Pattern) -> Units:
    """Return single elements, or blocks scored by the mean of their elements."""
    if pattern.kind != "block":
        return Units(scores)
    assert axes is not None
    assert axes.outputs is not None
    assert axes.inputs is not None
    ids = importance.block_ids(scores.shape, {axes.outputs: pattern.first, axes.inputs: pattern.second})
    sizes = np.bincount(ids.ravel())
    # The mean, not the sum, because blocks at the edge are smaller.
    return Units(np.bincount(ids.ravel(), weights=scores.ravel()) / sizes, sizes, ids)


def lowest_of(units: Mapping[str, Units], count: int) -> dict[str, np.ndarray]:
    """Return masks of the elements to remove, by weight: the lowest units of all, closest to `count` elements."""
    if not units:
        return {}
    scores = np.concatenate([u.scores.ravel() for u in units.values()])
    sizes = [u.sizes for u in units.values() if u.sizes is not None]
    chosen = (
        importance.lowest_units(scores, np.concatenate(sizes), count) if sizes else importance.lowest(scores, count)
    )
    parts = np.split(chosen, np.cumsum([u.scores.size for u in units.values()])[:-1])
    return {
        name: part.reshape(unit.scores.shape) if unit.ids is None else part[unit.ids]
        for (name, unit), part in zip(units.items(), parts, strict=True)
    }


def lowest_per_output(scores: np.ndarray, within: tuple[int, ...], count: int) -> np.ndarray:
    """Return a mask of `count` elements to remove: the lowest of each output, equally many of each up to one.

    Args:
        scores: scores of a weight, in its shape.
        within: axes along which the weights of one output lie.
        count: number of elements over all outputs.
    """
    last = tuple(range(scores.ndim - len(within), scores.ndim))
    moved = np.moveaxis(scores, within, last)
    rows = moved.reshape(-1, int(np.prod([scores.shape[axis] for axis in within])))
    ends = np.arange(len(rows) + 1) * count // max(len(rows), 1)
    order = np.argsort(rows, axis=1, kind="stable")
    removed = np.zeros(rows.shape, bool)
    np.put_along_axis(removed, order, np.arange(rows.shape[1]) < np.diff(ends)[:, None], axis=1)
    return np.moveaxis(removed.reshape(moved.shape), last, within)
