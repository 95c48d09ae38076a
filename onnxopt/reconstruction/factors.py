"""Weights as chains of smaller ones: a product, a kernel by its axes, or a small kernel between two projections."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

Form = Literal["channel", "spatial", "tucker", "input"]
FORMS: tuple[Form, ...] = ("channel", "spatial", "tucker", "input")


@dataclass(frozen=True)
class Stage:
    """One layer of a chain.

    Attributes:
        weight: shape (outputs, inputs, *kernel); the kernel is 1 along spatial axes on which it does not slide.
        axes: spatial axes on which it slides; none of a projection.
    """

    weight: np.ndarray
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Factors:
    """A layer's weight, shape (outputs, inputs, *kernel), as a chain; a product of matrices has no kernel.

    Attributes:
        ranks: channels between the stages.
        stages: in the order in which they run.
    """

    form: Form
    ranks: tuple[int, ...]
    stages: tuple[Stage, ...]

    def weight(self) -> np.ndarray:
        """Return the one weight that does the same, shape (outputs, inputs, *kernel)."""
        return _chained(self.stages)

    def features(self, rows: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
        """Return what the last stage reads, shape (rows, rank * kernel positions of that stage).

        Args:
            rows: what the layer reads, shape (rows, inputs * kernel positions).
            kernel: of the layer.
        """
        axes = sorted({axis for stage in self.stages[:-1] for axis in stage.axes})
        before = _chained(self.stages[:-1]).astype(rows.dtype)
        before = before.reshape(*before.shape[:2], *(kernel[axis] for axis in axes))
        patches = rows.reshape(len(rows), before.shape[1], *kernel)
        over = [1, *(2 + axis for axis in axes)]
        found = np.tensordot(patches, before, (over, list(range(1, before.ndim))))
        return np.moveaxis(found, -1, 1).reshape(len(rows), -1)

    def with_last(self, matrix: np.ndarray) -> "Factors":
        """Return the chain with other weights in the last stage, shape (outputs, rank * kernel positions)."""
        last = self.stages[-1]
        return Factors(self.form, self.ranks, (*self.stages[:-1], Stage(matrix.reshape(last.weight.shape), last.axes)))


def forms_of(kernel: tuple[int, ...]) -> tuple[Form, ...]:
    """Return the forms that differ for a kernel: without one all are the same product."""
    if prod(kernel) == 1:
        return ("channel",)
    return FORMS if sum(k > 1 for k in kernel) > 1 else ("channel", "tucker", "input")


def largest_ranks(form: Form, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the ranks at which a chain can be any weight of `shape`."""
    outputs, inputs, *kernel = shape
    size = prod(kernel)
    if form == "channel":
        return (min(outputs, inputs * size),)
    if form == "input":
        return (min(inputs, outputs * size),)
    if form == "tucker":
        return min(inputs, outputs * size), min(outputs, inputs * size)
    first, rest = _split(tuple(kernel))
    return (min(inputs * prod(kernel[a] for a in first), outputs * prod(kernel[a] for a in rest)),)


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
    first, rest = _split(tuple(kernel))
    one, other = (tuple(k if axis in axes else 1 for axis, k in enumerate(kernel)) for axes in (first, rest))
    return ((ranks[0], inputs, *one), first), ((outputs, ranks[0], *other), rest)


def factorized(
    weight: np.ndarray,
    form: Form,
    ranks: tuple[int, ...],
    outputs_basis: np.ndarray | None = None,
    inputs_power: np.ndarray | None = None,
) -> Factors:
    """Return the chain of a form that comes closest to `weight`.

    `channel` and `input`: Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2016; `spatial`:
    Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", BMVC 2014; `tucker`: Kim et
    al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", ICLR 2016.

    Args:
        weight: shape (outputs, inputs, *kernel).
        form: of the chain.
        ranks: as many as `largest_ranks` gives.
        outputs_basis: orthonormal directions of the outputs, most important first, shape (outputs, outputs); those of
            the weight when None.
        inputs_power: second moments of the input channels, shape (inputs, inputs); all alike when None.
    """
    if form == "channel":
        return Factors(form, ranks, _output_side(weight, ranks[0], outputs_basis))
    if form == "input":
        return Factors(form, ranks, _input_side(weight, ranks[0], inputs_power))
    if form == "spatial":
        return Factors(form, ranks, _by_axes(weight, ranks[0]))
    if outputs_basis is None:
        outputs_basis = _directions(unfolded(weight, "channel"))
    point, inner = _input_side(weight, ranks[0], inputs_power)
    return Factors(form, ranks, (point, *_output_side(inner.weight, ranks[1], outputs_basis)))


def truncated(factors: Factors, ranks: tuple[int, ...]) -> Factors:
    """Return the chain at lower ranks, which is the first part of it."""
    bounds = (None, *ranks, None)
    cut = [Stage(stage.weight[: bounds[i + 1], : bounds[i]], stage.axes) for i, stage in enumerate(factors.stages)]
    return Factors(factors.form, ranks, tuple(cut))


def unfolded(weight: np.ndarray, form: Literal["channel", "spatial", "input"]) -> np.ndarray:
    """Return the matrix whose rank a form with one rank limits."""
    if form == "channel":
        return weight.reshape(len(weight), -1)
    if form == "input":
        return np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1)
    first, rest = (tuple(2 + axis for axis in axes) for axes in _split(weight.shape[2:]))
    rows = prod(weight.shape[a] for a in (1, *first))
    return weight.transpose(1, *first, 0, *rest).reshape(rows, -1)


def _chained(stages: tuple[Stage, ...]) -> np.ndarray:
    """Return the product of stages; at most one of them slides on each axis, so their kernels broadcast."""
    result = stages[0].weight
    for stage in stages[1:]:
        result = _front(np.matmul(_back(stage.weight), _back(result)))
    return result


def _back(weight: np.ndarray) -> np.ndarray:
    return np.moveaxis(weight, (0, 1), (-2, -1))


def _front(weight: np.ndarray) -> np.ndarray:
    return np.moveaxis(weight, (-2, -1), (0, 1))


def _every_axis(weight: np.ndarray) -> tuple[int, ...]:
    return tuple(range(weight.ndim - 2))


def _point(matrix: np.ndarray, like: np.ndarray) -> Stage:
    return Stage(matrix.reshape(*matrix.shape, *(1,) * (like.ndim - 2)))


def _output_side(weight: np.ndarray, rank: int, basis: np.ndarray | None) -> tuple[Stage, Stage]:
    if basis is None:
        basis = _directions(unfolded(weight, "channel"))
    directions = basis[:, :rank]
    first = np.tensordot(directions.T, weight, 1)
    return Stage(first, _every_axis(weight)), _point(directions, weight)


def _input_side(weight: np.ndarray, rank: int, power: np.ndarray | None) -> tuple[Stage, Stage]:
    """Return a projection of the inputs and the rest: the best rank in the metric of the inputs' second moments."""
    matrix = unfolded(weight, "input")
    root = inverse = np.eye(len(matrix))
    if power is not None:
        values, vectors = np.linalg.eigh(power)
        values = np.sqrt(np.maximum(values, 1e-6 * max(float(values.max()), 1e-12)))
        root, inverse = vectors * values @ vectors.T, vectors / values @ vectors.T
    left = _directions(root @ matrix)[:, :rank]
    inner = (left.T @ root @ matrix).reshape(rank, len(weight), *weight.shape[2:])
    return _point((inverse @ left).T, weight), Stage(np.moveaxis(inner, 0, 1), _every_axis(weight))


def _directions(matrix: np.ndarray) -> np.ndarray:
    """Return the left singular vectors, most important first."""
    if matrix.shape[1] > 2 * matrix.shape[0]:
        # Of a wide matrix the small product is faster; the energies it loses are below single precision.
        matrix = matrix @ matrix.T
    return np.asarray(np.linalg.svd(matrix, full_matrices=False)[0])


def _by_axes(weight: np.ndarray, rank: int) -> tuple[Stage, Stage]:
    first, rest = _split(weight.shape[2:])
    left, values, right = np.linalg.svd(unfolded(weight, "spatial"), full_matrices=False)
    root = np.sqrt(values[:rank])[:, None]
    outputs, inputs, *kernel = weight.shape
    one, other = (tuple(k if axis in axes else 1 for axis, k in enumerate(kernel)) for axes in (first, rest))
    before = (root * left[:, :rank].T).reshape(rank, inputs, *one)
    after = (root * right[:rank]).reshape(rank, outputs, *other)
    return Stage(before, first), Stage(np.moveaxis(after, 0, 1), rest)


def _split(kernel: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of the first and of the second half: the first one along which the kernel is wide, and others."""
    wide = next(axis for axis, k in enumerate(kernel) if k > 1)
    return (wide,), tuple(axis for axis in range(len(kernel)) if axis != wide)
