"""Image augmentation; student and teacher see the same batch.

Images are (n, channels, height, width), or (n, height, width, channels) where the last axis is 1, 3 or 4 and the second
is not. Other inputs stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from onnxopt.samples.core import Array

Rng = np.random.Generator
_PAD = 1 / 8
_CUT = 1 / 4
_CHANNELS = (1, 3, 4)


def augmented(feeds: Mapping[str, Array], names: Sequence[str], rng: Rng) -> dict[str, Array]:
    """Return the batch with the changes `names` made to its images, in that order."""
    return {key: _changed(array, names, rng) if _axes(array) else array for key, array in feeds.items()}


def _changed(array: Array, names: Sequence[str], rng: Rng) -> Array:
    last = _axes(array) == (1, 2)
    images = np.moveaxis(array, -1, 1) if last else array
    for name in names:
        images = AUGMENTATIONS[name](images, rng)
    return np.ascontiguousarray(np.moveaxis(images, 1, -1) if last else images)


def _axes(array: Array) -> tuple[int, int] | None:
    """Return the axes of height and width; None when these are no images."""
    if array.ndim != 4 or array.dtype.kind not in "fui":
        return None
    if array.shape[1] in _CHANNELS:
        return 2, 3
    return (1, 2) if array.shape[3] in _CHANNELS else None


def flip(images: Array, rng: Rng) -> Array:
    """Mirror every other image."""
    mirrored = rng.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[..., ::-1], images)


def crop(images: Array, rng: Rng) -> Array:
    """Move images by up to an eighth of their size; what comes in repeats the edge."""
    height, width = images.shape[2:]
    pads = max(1, round(_PAD * height)), max(1, round(_PAD * width))
    padded = np.pad(images, ((0, 0), (0, 0), (pads[0],) * 2, (pads[1],) * 2), mode="edge")
    tops, lefts = (rng.integers(0, 2 * pad + 1, len(images)) for pad in pads)
    return np.stack([p[:, t : t + height, s : s + width] for p, t, s in zip(padded, tops, lefts, strict=True)])


def cutout(images: Array, rng: Rng) -> Array:
    """Fill a square of a quarter of each image's size with its mean: DeVries and Taylor, 2017."""
    height, width = images.shape[2:]
    side = max(1, round(_CUT * min(height, width)))
    cut = images.copy()
    tops, lefts = rng.integers(0, height - side + 1, len(cut)), rng.integers(0, width - side + 1, len(cut))
    means = images.mean(axis=(2, 3), keepdims=True).astype(images.dtype)
    for image, mean, top, left in zip(cut, means, tops, lefts, strict=True):
        image[:, top : top + side, left : left + side] = mean
    return cut


def mixup(images: Array, rng: Rng) -> Array:
    """Mix each image with another, mostly little: Zhang et al., 2018. Labels no longer fit: teachers only."""
    share = rng.beta(0.3, 0.3, len(images))[:, None, None, None]
    mixed = share * images + (1 - share) * images[rng.permutation(len(images))]
    return np.asarray(mixed.astype(images.dtype))


AUGMENTATIONS: Mapping[str, Callable[[Array, Rng], Array]] = MappingProxyType(
    {"flip": flip, "crop": crop, "cutout": cutout, "mixup": mixup}
)
"""By the name of an option."""
