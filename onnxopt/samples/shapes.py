"""Comparison of the shape of data with the declared shape of a model, and hints for conversion."""

from collections.abc import Sequence
from math import prod

from onnxopt.model_file.signature import Dim


def fits(shape: Sequence[int], wanted: Sequence[Dim]) -> bool:
    """Return whether an array of `shape` fits the declared shape `wanted`."""
    return len(shape) == len(wanted) and all(
        size == dim for size, dim in zip(shape, wanted, strict=True) if isinstance(dim, int)
    )


def shape_hint(shape: Sequence[int], wanted: Sequence[Dim], *, batch_axis: bool) -> str:
    """Return the NumPy call on the whole data set that makes it fit, if there is one.

    Args:
        shape: shape of a sample; of a whole run or data set with `batch_axis`.
        wanted: shape that the model declares for it.
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
