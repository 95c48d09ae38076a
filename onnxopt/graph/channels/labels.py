"""Labels of positions along an axis, united into classes that are removed as one."""

from collections.abc import Iterable

import numpy as np

Vector = np.ndarray
"""One label per position of an axis."""
Axes = tuple[Vector | None, ...]
"""Labels per axis of a value; None for an axis without removable positions: batch, time, a model input."""


class Labels:
    """Classes of labels; a frozen class keeps its first reason.

    Methods work on whole vectors, because a model has a million labels.
    """

    def __init__(self) -> None:
        self._size = 0
        self._parent = np.arange(1024)
        self._reason = np.zeros(1024, np.int32)
        self._copies = np.zeros(1024, bool)
        self._texts = [""]
        self._numbers = dict[str, int]()

    def fresh(self, count: int, frozen: str | None = None, copies: bool = False) -> Vector:
        """Return new labels, each in a separate class; with `copies`, all of one value, as in the output of Expand."""
        vector = np.arange(self._size, self._size + count)
        self._size += count
        room = len(self._parent)
        if self._size > room:
            more = max(self._size - room, room)
            self._parent = np.concatenate([self._parent, np.arange(room, room + more)])
            self._reason = np.concatenate([self._reason, np.zeros(more, np.int32)])
            self._copies = np.concatenate([self._copies, np.zeros(more, bool)])
        if frozen is not None:
            self.freeze(vector, frozen)
        self._copies[vector] = copies
        return vector

    def are_copies(self, vector: Vector) -> bool:
        """Return whether all labels of the classes are copies of one value."""
        return bool(self._copies[self.roots(vector)].all())

    def roots(self, vector: Vector) -> Vector:
        """Return the label that stands for the class of each position."""
        roots: Vector = self._parent[vector]
        while True:
            further = self._parent[roots]
            if (further == roots).all():
                break
            roots = further
        self._parent[vector] = roots
        return roots

    def unite(self, one: Vector, other: Vector) -> None:
        """Unite position by position.

        Raises:
            ValueError: the axes differ in length.
        """
        if one is other:
            return
        if len(one) != len(other):
            raise ValueError(f"{len(one)} labels are united with {len(other)}")
        left, right = self.roots(one), self.roots(other)
        while (differ := left != right).any():
            pairs = np.stack([np.minimum(left, right), np.maximum(left, right)])[:, differ]
            # Chains are united one link at a time: each label that disappears is in one pair only.
            _, first = np.unique(pairs[1], return_index=True)
            kept, merged = pairs[:, first]
            links = ~np.isin(kept, merged)
            kept, merged = kept[links], merged[links]
            self._parent[merged] = kept
            self._join(kept, merged)
            left, right = self.roots(left), self.roots(right)

    def _join(self, kept: Vector, merged: Vector) -> None:
        np.logical_and.at(self._copies, kept, self._copies[merged])
        frozen = self._reason[merged] > 0
        for root, label in zip(kept[frozen].tolist(), merged[frozen].tolist(), strict=True):
            if not self._reason[root]:
                self._reason[root] = self._reason[label]

    def unite_all(self, vector: Vector) -> None:
        """Make one class of all positions."""
        self.unite(vector[1:], np.full(max(len(vector) - 1, 0), vector[0] if len(vector) else 0))

    def freeze(self, vector: Vector | None, reason: str) -> None:
        """Freeze all positions for `reason`."""
        if vector is None or not len(vector):
            return
        if reason not in self._numbers:
            self._numbers[reason] = len(self._texts)
            self._texts.append(reason)
        roots = self.roots(vector)
        self._reason[roots[self._reason[roots] == 0]] = self._numbers[reason]

    def reason(self, root: int) -> str | None:
        """Return the reason why the class `root` is frozen; None if it is not."""
        return self._texts[self._reason[root]] or None

    def free(self, roots: Vector) -> Vector:
        """Return which of the classes are not frozen."""
        return np.asarray(self._reason[roots] == 0)

    def among(self, vectors: Iterable[Vector]) -> Vector:
        """Return a mask over all labels: the ones that stand for a class in `vectors`."""
        found = np.zeros(len(self._parent), bool)
        for vector in vectors:
            found[self.roots(vector)] = True
        return found

    def same(self, vectors: Iterable[Vector | None], reason: str) -> Vector | None:
        """Unite vectors position by position; if one is None, freeze the others for `reason`."""
        listed = list(vectors)
        known = [v for v in listed if v is not None]
        for vector in known[1:]:
            self.unite(known[0], vector)
        if len(known) == len(listed):
            return known[0] if known else None
        for vector in known:
            self.freeze(vector, reason)
        return None
