"""Candidate forms and ranks of a layer with loss and cost, and the best mix within a budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from onnxopt.allocation import PricedLevel, choose_levels
from onnxopt.measure.output_error import relative_power
from onnxopt.reconstruction.low_rank.factors import factorized, truncated, unfolded
from onnxopt.reconstruction.low_rank.fit import Choice
from onnxopt.reconstruction.low_rank.forms import Form, largest_ranks, of_one_group, stage_shapes
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics
from onnxopt.reconstruction.low_rank.spectrum import Spectrum, evbmf_rank

MOST_MACS = 0.6
"""Largest share of the multiply-accumulates at which a chain was measured to be faster, because of overheads."""
_ANY_ERROR = 1e-12
"""Smallest loss, so that a layer that loses nothing is not reduced without need."""
_TRIED = 8
"""Most ranks per form if each needs a decomposition."""


@dataclass(frozen=True)
class RankChoice:
    """One way to reduce a layer.

    Attributes:
        error: lost share of the variance of the outputs; of the weights without samples.
        macs: multiply-accumulates as a share of the dense layer's.
        cost: predicted time as a share of the dense layer's; equal to `macs` until it is measured.
    """

    choice: Choice
    error: float
    macs: float
    cost: float


def macs_share(choice: Choice, shape: tuple[int, ...], strides: Sequence[int]) -> float:
    """Return the multiply-accumulates of a chain as a share of the dense layer's, without effects at borders.

    Args:
        choice: form and ranks.
        shape: shape of the dense weight.
        strides: one per spatial axis; stages before the one that slides on the axis have that many times the positions.
    """
    slid = set[int]()
    total = 0.0
    for stage, axes in stage_shapes(choice.form, choice.ranks, shape):
        slid |= set(axes)
        total += prod(stage) * prod(stride for axis, stride in enumerate(strides) if axis not in slid)
    return total / prod(shape)


def candidates(
    weight: np.ndarray,
    forms: Sequence[Form],
    *,
    strides: Sequence[int],
    block: int,
    seen: LayerStatistics | None,
    groups: int = 1,
) -> list[RankChoice]:
    """Return the choices for a layer at ranks that are multiples of `block`, of every form, cheap ones first.

    Args:
        weight: shape (outputs, inputs, *kernel).
        forms: allowed forms.
        strides: strides of a convolution.
        block: width of the processor's registers.
        seen: statistics on calibration samples; None judges by the weight alone.
        groups: groups of a convolution; with several only the `channel` form is possible.
    """
    spectrum = seen.spectrum if seen is not None else Spectrum.of_weight(unfolded(weight, "channel"), groups)
    shape, block = of_one_group(weight.shape, groups), block // gcd(block, groups)
    found = list[RankChoice]()
    for form in forms:
        grid = list(_grid(form, shape, block))
        wide = form != "channel" and bool(grid)
        basis, power = (seen.spectrum.basis, seen.power) if seen is not None else (None, None)
        whole = factorized(weight, form, tuple(map(max, zip(*grid, strict=True))), basis, power) if wide else None
        for ranks in grid:
            choice = Choice(form, ranks)
            macs = macs_share(choice, shape, strides)
            if macs >= 1.0:
                continue
            lost = (
                spectrum.error(ranks[0] * groups)
                if whole is None
                else relative_error(weight, truncated(whole, ranks).weight(), seen)
            )
            found.append(RankChoice(choice, lost, macs, macs))
    return sorted(found, key=lambda c: (c.cost, c.error))


def evbmf_ranks(weight: np.ndarray, form: Form, groups: int = 1) -> tuple[int, ...]:
    """Return the number of singular values above the noise as ranks; the highest of all groups."""
    if groups > 1:
        return tuple(map(max, zip(*(evbmf_ranks(part, form) for part in np.split(weight, groups)), strict=True)))
    if form == "tucker":
        return evbmf_rank(unfolded(weight, "input")), evbmf_rank(unfolded(weight, "channel"))
    return (evbmf_rank(unfolded(weight, form)),)


def best_mix(
    tables: Mapping[str, Sequence[RankChoice]],
    work: Mapping[str, float],
    budget: float,
    share: Callable[[RankChoice], float] = lambda candidate: candidate.macs,
) -> dict[str, Choice]:
    """Return the choice of each table with the least total loss and at most `budget` remaining work.

    This is a knapsack problem with one choice per layer; layers without a table or a choice keep all their work.

    Args:
        tables: candidates by layer, their errors comparable between layers.
        work: multiply-accumulates or milliseconds of each of these layers.
        budget: largest remaining work of all; if it cannot be reached, the cheapest choices are taken.
        share: returns the share of its layer's work that a candidate needs.
    """
    names = [name for name in tables if tables[name]]
    levels = [
        [PricedLevel(0.0, work[n]), *(PricedLevel(c.error + _ANY_ERROR, work[n] * share(c)) for c in tables[n])]
        for n in names
    ]
    rest = sum(work.values()) - sum(work[name] for name in names)
    taken = choose_levels(levels, cost_limit=budget - rest)
    return {name: tables[name][level - 1].choice for name, level in zip(names, taken, strict=True) if level}


def _grid(form: Form, shape: tuple[int, ...], block: int) -> Iterator[tuple[int, ...]]:
    largest = largest_ranks(form, shape)
    ranks = list(range(block, largest[-1], block))
    if form != "channel" and len(ranks) > _TRIED:
        ranks = [ranks[i] for i in np.unique(np.linspace(0, len(ranks) - 1, _TRIED).round().astype(int))]
    for rank in ranks:
        if form != "tucker":
            yield (rank,)
            continue
        share = rank / largest[1]
        inner = max(block, round(share * largest[0] / block) * block)
        if inner < largest[0]:
            yield inner, rank


def relative_error(weight: np.ndarray, approximation: np.ndarray, seen: LayerStatistics | None) -> float:
    """Return the lost share of the variance of a layer's outputs; of its weights without samples."""
    matrix, lost = (a.reshape(len(weight), -1) for a in (weight, weight - approximation))
    if seen is None or seen.patches is None:
        return relative_power(float(np.square(lost).sum()), float(np.square(matrix).sum()))
    error, signal = (np.square(seen.patches @ m.T.astype(np.float32)).sum(dtype=np.float64) for m in (lost, matrix))
    return relative_power(float(error), float(signal))
