"""Weights as chains of smaller ones: a product, a kernel by its axes, or a small kernel between two projections."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.reconstruction.low_rank.forms import Form, kernel_halves


@dataclass(frozen=True)
class Stage:
    """One layer of a chain.

    Attributes:
        weight: shape (outputs, inputs, *kernel); the kernel is 1 along spatial axes on which it does not slide.
        axes: spatial axes on which it slides; a projection has none.
    """

    weight: np.ndarray
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Factors:
    """A layer's weight, shape (outputs, inputs, *kernel), as a chain; a product of matrices has no kernel.

    Attributes:
        ranks: channels between the stages.
        stages: the layers in execution order.
        groups: number of independent channel groups; ranks are those of one group.
    """

    form: Form
    ranks: tuple[int, ...]
    stages: tuple[Stage, ...]
    groups: int = 1

    def weight(self) -> np.ndarray:
        """Return the equivalent single weight, shape (outputs, inputs, *kernel)."""
        parts = zip(*(np.split(stage.weight, self.groups) for stage in self.stages), strict=True)
        return np.concatenate([_chained(tuple(Stage(weight) for weight in weights)) for weights in parts])

    def features(self, rows: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
        """Return the inputs of the last stage, shape (rows, rank * kernel positions of that stage).

        Args:
            rows: inputs of the layer, shape (rows, inputs * kernel positions).
            kernel: kernel sizes of the layer.
        """
        axes = sorted({axis for stage in self.stages[:-1] for axis in stage.axes})
        before = _chained(self.stages[:-1]).astype(rows.dtype)
        before = before.reshape(*before.shape[:2], *(kernel[axis] for axis in axes))
        patches = rows.reshape(len(rows), before.shape[1], *kernel)
        over = [1, *(2 + axis for axis in axes)]
        found = np.tensordot(patches, before, (over, list(range(1, before.ndim))))
        return np.moveaxis(found, -1, 1).reshape(len(rows), -1)

    def with_last(self, matrix: np.ndarray) -> "Factors":
        """Return the chain with new weights in the last stage, shape (outputs, rank * kernel positions)."""
        last = self.stages[-1]
        return Factors(self.form, self.ranks, (*self.stages[:-1], Stage(matrix.reshape(last.weight.shape), last.axes)))


def factorized(
    weight: np.ndarray,
    form: Form,
    ranks: tuple[int, ...],
    outputs_basis: np.ndarray | None = None,
    inputs_power: np.ndarray | None = None,
) -> Factors:
    """Return the chain of a form that is closest to `weight`.

    `channel` and `input`: Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2016; `spatial`:
    Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", BMVC 2014; `tucker`: Kim et
    al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", ICLR 2016.

    Args:
        weight: shape (outputs, inputs, *kernel).
        form: form of the chain.
        ranks: ranks, as many as in `largest_ranks`.
        outputs_basis: orthonormal directions of the outputs, most important first, shape (outputs, outputs); None takes
            those of the weight.
        inputs_power: second moments of the input channels, shape (inputs, inputs); None takes the identity.
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


def factorized_in_groups(
    weight: np.ndarray, groups: int, form: Form, ranks: tuple[int, ...], bases: Sequence[np.ndarray] | None = None
) -> Factors:
    """Return the chain of a grouped convolution, each group factorized on its own.

    Args:
        weight: weight of all groups, shape (outputs, inputs of a group, *kernel).
        groups: number of groups.
        form: form of the chain.
        ranks: ranks of each group.
        bases: `outputs_basis` of `factorized`, per group.
    """
    parts = [
        factorized(part, form, ranks, None if bases is None else bases[number])
        for number, part in enumerate(np.split(weight, groups))
    ]
    stages = zip(*(part.stages for part in parts), strict=True)
    joined = tuple(Stage(np.concatenate([stage.weight for stage in same]), same[0].axes) for same in stages)
    return Factors(form, ranks, joined, groups)


def truncated(factors: Factors, ranks: tuple[int, ...]) -> Factors:
    """Return the chain at lower ranks, which is its leading part."""
    bounds = (None, *ranks, None)
    cut = [Stage(stage.weight[: bounds[i + 1], : bounds[i]], stage.axes) for i, stage in enumerate(factors.stages)]
    return Factors(factors.form, ranks, tuple(cut))


def unfolded(weight: np.ndarray, form: Literal["channel", "spatial", "input"]) -> np.ndarray:
    """Return the matrix whose rank a form with one rank limits."""
    if form == "channel":
        return weight.reshape(len(weight), -1)
    if form == "input":
        return np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1)
    first, rest = (tuple(2 + axis for axis in axes) for axes in kernel_halves(weight.shape[2:]))
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
    """Return a projection of the inputs, and the remaining weight: the best of its rank in the metric of `power`."""
    matrix = unfolded(weight, "input")
    root = inverse = np.eye(len(matrix))
    if power is not None:
        raise_if_interrupted()
        values, vectors = np.linalg.eigh(power)
        values = np.sqrt(np.maximum(values, 1e-6 * max(float(values.max()), 1e-12)))
        root, inverse = vectors * values @ vectors.T, vectors / values @ vectors.T
    left = _directions(root @ matrix)[:, :rank]
    inner = (left.T @ root @ matrix).reshape(rank, len(weight), *weight.shape[2:])
    return _point((inverse @ left).T, weight), Stage(np.moveaxis(inner, 0, 1), _every_axis(weight))


def _directions(matrix: np.ndarray) -> np.ndarray:
    """Return the left singular vectors, most important first."""
    if matrix.shape[1] > 2 * matrix.shape[0]:
        # For a wide matrix the small product is faster; the lost energies are below single precision.
        matrix = matrix @ matrix.T
    raise_if_interrupted()
    return np.asarray(np.linalg.svd(matrix, full_matrices=False)[0])


def _by_axes(weight: np.ndarray, rank: int) -> tuple[Stage, Stage]:
    first, rest = kernel_halves(weight.shape[2:])
    raise_if_interrupted()
    left, values, right = np.linalg.svd(unfolded(weight, "spatial"), full_matrices=False)
    root = np.sqrt(values[:rank])[:, None]
    outputs, inputs, *kernel = weight.shape
    one, other = (tuple(k if axis in axes else 1 for axis, k in enumerate(kernel)) for axes in (first, rest))
    before = (root * left[:, :rank].T).reshape(rank, inputs, *one)
    after = (root * right[:rank]).reshape(rank, outputs, *other)
    return Stage(before, first), Stage(np.moveaxis(after, 0, 1), rest)
