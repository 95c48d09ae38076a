"""Placement of an image in the input of a model, for its pixels and boxes."""

from dataclasses import dataclass

import numpy as np

from onnxopt.options.reading import ReadOptions

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Placement:
    """The scale and offset of an image.

    Attributes:
        scaled: height and width after scaling.
        offset: shift down and right in rows and columns; negative if its edge is cut off.
        size: height and width of the input.
    """

    scaled: Size
    offset: tuple[int, int]
    size: Size

    @classmethod
    def of(cls, image: Size, size: Size | None, options: ReadOptions) -> "Placement":
        """Return the placement of an image of height and width `image` in an input of `size`; None keeps its own."""
        if size is None:
            return cls(image, (0, 0), image)
        if options.resize == "squash":
            return cls(size, (0, 0), size)
        shares = [own / given for own, given in zip(size, image, strict=True)]
        if options.resize == "letterbox":
            scale = min(shares)
        else:
            scale = options.shortest_side / min(image) if options.shortest_side else 1.0
            scale = max(scale, *shares)
        scaled = image if scale == 1.0 else (max(round(image[0] * scale), 1), max(round(image[1] * scale), 1))
        if options.resize == "letterbox":
            scaled = (min(scaled[0], size[0]), min(scaled[1], size[1]))
            return cls(scaled, ((size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2), size)
        return cls(scaled, (-((scaled[0] - size[0]) // 2), -((scaled[1] - size[1]) // 2)), size)

    def boxes(self, shares: np.ndarray) -> np.ndarray:
        """Convert boxes `(k, 4)` from shares of the image to shares of the input; they may reach beyond it."""
        scale = np.array([self.scaled[1], self.scaled[0]] * 2, dtype=np.float64)
        offset = np.array([self.offset[1], self.offset[0]] * 2, dtype=np.float64)
        return np.asarray((shares * scale + offset) / np.array([self.size[1], self.size[0]] * 2))
