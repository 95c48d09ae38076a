"""Compare the shape of data with the one a model declares, and say how to get from one to the other."""

from collections.abc import Sequence
from math import prod

from onnxopt.model_file.signature import Dim


def fits(shape: Sequence[int], wanted: Sequence[Dim]) -> bool:
    """Return whether an array of `shape` can be fed where `wanted` is declared."""
    return len(shape) == len(wanted) and all(
        size == dim for size, dim in zip(shape, wanted, strict=True) if isinstance(dim, int)
    )


def shape_hint(shape: Sequence[int], wanted: Sequence[Dim], *, batch_axis: bool) -> str:
    """Return the NumPy call on the whole data set that would make it fit, when there is one.

    Args:
        shape: of a sample (or of a whole run or data set, when `batch_axis`).
        wanted: by the model for the same.
        batch_axis: whether both begin with the batch axis.
    """
    first = 1 if batch_axis else 0
    sample, wanted_sample = shape[first:], wanted[first:]
    if len(sample) == 3 and len(wanted_sample) == 3:
        for what, order in (("NHWC to NCHW", (2, 0, 1)), ("NCHW to NHWC", (1, 2, 0))):
            if fits([sample[i] for i in order], wanted_sample):
                return f"Transpose it from {what}: x.transpose{(0, *(i + 1 for i in order))}."
    sizes = [dim for dim in wanted_sample if isinstance(dim, int)]
    if wanted_sample and len(sizes) == len(wanted_sample) and prod(sizes) and prod(shape) % prod(sizes) == 0:
        return f"Reshape it: x.reshape{(-1, *sizes)}."
    return "Bring the samples to the model's shape."
