"""The labelled boxes of one sample."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxopt.errors import DataError
from onnxopt.samples.core import Array


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Labelled boxes of one image.

    Attributes:
        boxes: `(k, 4)` left, top, right, bottom, in shares of the model's input.
        classes: `(k,)`, counted from 0.
        ignored: `(k,)`, whether a match with the box is neither right nor wrong.
        crowd: `(k,)`, whether one box stands for many objects; crowds are ignored too.
        size: height and width of the model's input in pixels.
    """

    boxes: Array = field(repr=False)
    classes: Array = field(repr=False)
    ignored: Array = field(repr=False)
    crowd: Array = field(repr=False)
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.classes)

    def __str__(self) -> str:
        # Only the content: it enters the fingerprint of samples.
        digest = hashlib.sha256()
        for part in (self.boxes, self.classes, self.ignored, self.crowd):
            digest.update(part.tobytes())
        return f"{len(self)} boxes {digest.hexdigest()[:16]}"


@dataclass(frozen=True, eq=False)
class Annotation:
    """Boxes of one image, as stored in a file.

    Attributes:
        name: name of the image file; empty if the format has none.
        boxes: `(k, 4)` left, top, right, bottom, in shares of the image.
        classes: `(k,)`, counted from 0.
        ignored: `(k,)`, see `ImageBoxes`.
        crowd: `(k,)`, see `ImageBoxes`.
    """

    name: str
    boxes: Array = field(repr=False)
    classes: Array = field(repr=False)
    ignored: Array = field(repr=False)
    crowd: Array = field(repr=False)

    @classmethod
    def of(
        cls,
        name: str,
        boxes: Sequence[Sequence[float]],
        classes: Sequence[int],
        *,
        where: str,
        ignored: Sequence[bool] | None = None,
        crowd: Sequence[bool] | None = None,
    ) -> "Annotation":
        """Return the boxes as arrays.

        Raises:
            DataError: ONX206 a box is not finite, or ends before it begins.
        """
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        wrong = ~(np.isfinite(corners).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1))
        if wrong.any():
            why = f"its corners are {corners[wrong][0].round(4).tolist()} of the image"
            raise DataError("ONX206", "a labelled box is invalid", where=where, why=why, hint="Correct it.")
        none = np.zeros(len(corners), dtype=bool)
        crowds = none if crowd is None else np.array(crowd, dtype=bool)
        passed = crowds if ignored is None else crowds | np.array(ignored, dtype=bool)
        return cls(name, corners, np.array(classes, dtype=np.int64), passed, crowds)


def damaged(where: str, why: str, hint: str = "Correct the file.") -> DataError:
    """Return the error for a file of boxes that cannot be read."""
    return DataError("ONX206", "the file of boxes cannot be read", where=where, why=why, hint=hint)
