"""Labels of positions along an axis, united into classes that can only be removed together."""

from collections.abc import Iterable

import numpy as np

Vector = np.ndarray
"""One label per position of an axis."""
Axes = tuple[Vector | None, ...]
"""Per axis of a value its labels, or None where nothing can be removed: a batch, a time axis, a model input."""


class Labels:
    """Classes of labels; a frozen class keeps the first reason it was given."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int, frozen: str | None = None) -> Vector:
        """Return new labels, each a class of its own."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        vector = np.arange(first, first + count)
        if frozen is not None:
            self.freeze(vector, frozen)
        return vector

    def find(self, label: int) -> int:
        """Return the label that stands for the class."""
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def roots(self, vector: Vector) -> Vector:
        """Return the class of each position."""
        return np.array([self.find(label) for label in vector.tolist()], dtype=np.int64)

    def unite(self, one: Vector, other: Vector) -> None:
        """Unite position by position.

        Raises:
            ValueError: the axes differ in length.
        """
        if one is other:
            return
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            root, merged = self.find(a), self.find(b)
            if root == merged:
                continue
            root, merged = min(root, merged), max(root, merged)
            self._parent[merged] = root
            reason = self._reasons.pop(merged, None)
            if reason is not None:
                self._reasons.setdefault(root, reason)

    def unite_all(self, vector: Vector) -> None:
        """Make one class of all positions."""
        self.unite(vector[1:], np.full(max(len(vector) - 1, 0), vector[0] if len(vector) else 0))

    def freeze(self, vector: Vector | None, reason: str) -> None:
        """Let no position be removed."""
        for label in () if vector is None else vector.tolist():
            self._reasons.setdefault(self.find(label), reason)

    def reason(self, root: int) -> str | None:
        """Return why the class `root` is frozen; None when it is not."""
        return self._reasons.get(root)

    def same(self, vectors: Iterable[Vector | None], reason: str) -> Vector | None:
        """Unite vectors; where one is None nothing can be removed and the others are frozen with `reason`."""
        listed = list(vectors)
        known = [v for v in listed if v is not None]
        for vector in known[1:]:
            self.unite(known[0], vector)
        if len(known) == len(listed):
            return known[0] if known else None
        for vector in known:
            self.freeze(vector, reason)
        return None
