"""The possible forms of a chain, and the shapes of its stages."""

from math import prod
from typing import Literal

Form = Literal["channel", "spatial", "tucker", "input"]
FORMS: tuple[Form, ...] = ("channel", "spatial", "tucker", "input")


def factor_forms(kernel: tuple[int, ...]) -> tuple[Form, ...]:
    """Return the forms that differ for a kernel: without a kernel all are the same product."""
    if prod(kernel) == 1:
        return ("channel",)
    return FORMS if sum(k > 1 for k in kernel) > 1 else ("channel", "tucker", "input")


def largest_ranks(form: Form, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the full ranks, at which a chain can represent any weight of `shape`."""
    outputs, inputs, *kernel = shape
    size = prod(kernel)
    if form == "channel":
        return (min(outputs, inputs * size),)
    if form == "input":
        return (min(inputs, outputs * size),)
    if form == "tucker":
        return min(inputs, outputs * size), min(outputs, inputs * size)
    first, rest = kernel_halves(tuple(kernel))
    return (min(inputs * prod(kernel[a] for a in first), outputs * prod(kernel[a] for a in rest)),)


def of_one_group(shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
    """Return the shape of the weight of one group."""
    return (shape[0] // groups, *shape[1:])


def stage_shapes(
    form: Form, ranks: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Return the shape of each stage's weight and the axes on which it slides, for a layer's weight of `shape`."""
    outputs, inputs, *kernel = shape
    every, ones = tuple(range(len(kernel))), (1,) * len(kernel)
    if form == "channel":
        return ((ranks[0], inputs, *kernel), every), ((outputs, ranks[0], *ones), ())
    if form == "input":
        return ((ranks[0], inputs, *ones), ()), ((outputs, ranks[0], *kernel), every)
    if form == "tucker":
        middle = (ranks[1], ranks[0], *kernel), every
        return ((ranks[0], inputs, *ones), ()), middle, ((outputs, ranks[1], *ones), ())
    first, rest = kernel_halves(tuple(kernel))
    one, other = (tuple(k if axis in axes else 1 for axis, k in enumerate(kernel)) for axes in (first, rest))
    return ((ranks[0], inputs, *one), first), ((outputs, ranks[0], *other), rest)


def kernel_halves(kernel: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of the two halves of a kernel: the first axis along which it is wide, and the others."""
    wide = next(axis for axis, k in enumerate(kernel) if k > 1)
    return (wide,), tuple(axis for axis in range(len(kernel)) if axis != wide)
