"""The layout of attention heads in a value, derived from the position of each element."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import onnx_ir as ir

from onnxopt.graph.attention.moves import Probes, factor, moved, moves
from onnxopt.graph.cost import Shape
from onnxopt.graph.probe import Probe

Laid = Callable[[np.ndarray], np.ndarray]
"""From the shape of an input to (*batch, time, size)."""


@dataclass(frozen=True)
class HeadReading:
    """The layout of queries, keys or values.

    Attributes:
        apart: the layout is (batch, heads, time, size); else (batch, time, width), the width in one axis or several.
        time_first: the layout is (time, batch, width).
        offset: position of the first head along the width.
        width: width of the whole value; 0 if heads are apart.
        own: number of heads in the value; several heads of the attention may share one.
        heads: number of heads of the attention.
        size: size of a head.
    """

    apart: bool
    time_first: bool
    offset: int
    width: int
    own: int
    heads: int
    size: int


@dataclass(frozen=True)
class HeadLayout:
    """A value, the layout of its heads, and the factor by which it is multiplied afterwards."""

    value: ir.Value
    rank: int
    reading: HeadReading
    factor: float

    @property
    def cost(self) -> int:
        """Return a rank of the work that turns the value into (batch, time, heads x size); 0 is none."""
        whole = self.reading.offset == 0 and self.reading.width == self.reading.own * self.reading.size
        return 4 * self.reading.time_first + 2 * (not whole) + (self.rank != 3)


@dataclass(frozen=True)
class HeadOperand:
    """Queries, keys or values: the values where they can be read, best first."""

    layouts: tuple[HeadLayout, ...]

    def best(self, *, apart: bool, heads: int) -> HeadLayout | None:
        """Return the best value with heads apart or together, and with `heads` heads; None without one."""
        fits = (each for each in self.layouts if each.reading.apart == apart and each.reading.heads == heads)
        return next(fits, None)


def operand_of(
    value: ir.Value, laid: Laid, batches: Sequence[Shape], probes: Probes, *, scaled: bool = True
) -> HeadOperand:
    """Return the values from which an input of a product can be read: the input, and values before it.

    Args:
        value: the input.
        laid: turns an array of the input's shape into (*batch, time, size).
        batches: shape of the product's batch, per probe.
        probes: shapes and constants at two choices of the dynamic sizes.
        scaled: whether values before multiplications by constants count too.
    """
    chain, factors = [value], [1.0]
    while True:
        node = chain[-1].producer()
        multiplied = factor(node, probes)
        if multiplied is not None and (scaled or multiplied[1] == 1.0):
            chain.append(multiplied[0])
            factors.append(multiplied[1])
        elif node is not None and moves(node) and node.inputs[0] is not None:
            chain.append(node.inputs[0])
            factors.append(1.0)
        else:
            break
    chain = [v for v, known in zip(chain, _known_so_far(chain, probes), strict=True) if known]
    numbered: list[list[np.ndarray]] = []
    for probe in probes:
        arrays = _numbered(chain, probe)
        while isinstance(arrays, int):  # the nodes above cannot be followed
            chain = chain[:arrays]
            numbered.clear()
            arrays = _numbered(chain, probe)
        numbered.append(arrays)
    if len(numbered) < len(probes):
        numbered = [a for a in (_numbered(chain, probe) for probe in probes) if not isinstance(a, int)]
    found = list[HeadLayout]()
    for index, place in enumerate(chain):
        readings = [
            _readings(arrays[index], _flat(laid(arrays[0]), batch), probe.shapes[place.name or ""])
            for arrays, batch, probe in zip(numbered, batches, probes, strict=True)
        ]
        shared = [reading for reading in readings[0] if all(reading in other for other in readings[1:])]
        rank = len(probes[0].shapes[place.name or ""])
        found += [HeadLayout(place, rank, reading, prod(factors[: index + 1])) for reading in shared]
    found.reverse()  # of equal ones the furthest up, with the most nodes left out
    return HeadOperand(tuple(sorted(found, key=lambda each: each.cost)))


def _known_so_far(chain: Sequence[ir.Value], probes: Probes) -> list[bool]:
    known = [all((v.name or "") in probe.shapes for probe in probes) for v in chain]
    return [all(known[: i + 1]) for i in range(len(chain))]


def _numbered(chain: Sequence[ir.Value], probe: Probe) -> list[np.ndarray] | int:
    """Return, for each value of a chain, which positions of the last one it holds.

    A number says how many values can be followed.
    """
    shape = probe.shapes[chain[-1].name or ""]
    arrays = [np.arange(prod(shape)).reshape(shape)]
    for above, value in pairwise(reversed(chain)):
        node = value.producer()
        assert node is not None
        array = arrays[-1] if not moves(node) else moved(value, arrays[-1], probe)
        if array is None:
            return chain.index(above) if above in chain else 1
        arrays.append(array)
    return arrays[::-1]


def _flat(array: np.ndarray, batch: Shape) -> np.ndarray:
    """Return (batch x heads, time, size)."""
    whole = np.broadcast_to(array, (*batch, *array.shape[-2:]))
    return whole.reshape(-1, *array.shape[-2:])


def _readings(held: np.ndarray, wanted: np.ndarray, shape: Shape) -> list[HeadReading]:
    """Return the layouts in which a value that holds the positions `held` can be read as `wanted`."""
    numbers = held.reshape(-1)
    places = np.full(int(max(numbers.max(), wanted.max())) + 1, -1)
    places[numbers] = np.arange(numbers.size)
    if (places >= 0).sum() < numbers.size:  # copies, which are better read before they are made
        return []
    at = places[wanted]
    return [] if (at < 0).any() else [*_apart(at, shape), *_together(at, shape)]


def _apart(at: np.ndarray, shape: Shape) -> list[HeadReading]:
    count, time, size = at.shape
    if len(shape) != 4 or shape[2:] != (time, size) or count % shape[0] or (count // shape[0]) % shape[1]:
        return []
    batch, heads, own = shape[0], count // shape[0], shape[1]
    rows = np.arange(batch)[:, None] * own + _shared(heads, own)
    expected = (rows.reshape(-1, 1, 1) * time + np.arange(time)[:, None]) * size + np.arange(size)
    return [HeadReading(True, False, 0, 0, own, heads, size)] if np.array_equal(at, expected) else []


def _together(at: np.ndarray, shape: Shape) -> list[HeadReading]:
    count, time, size = at.shape
    found = list[HeadReading]()
    for time_first in (False, True):
        if len(shape) < 3 or shape[int(not time_first)] != time or count % shape[int(time_first)]:
            continue
        batch, width = shape[int(time_first)], prod(shape[2:])
        heads, offset = count // batch, int(at[0, 0, 0])
        own = len(np.unique(at.reshape(batch, heads, time, size)[0, :, 0, 0]))
        if heads % own or offset + own * size > width:
            continue
        row = np.arange(batch)[:, None] * time + np.arange(time)
        if time_first:
            row = np.arange(batch)[:, None] + np.arange(time) * batch
        along = offset + _shared(heads, own)[:, None] * size + np.arange(size)
        expected = row[:, None, :, None] * width + along[None, :, None, :]
        if np.array_equal(at, expected.reshape(at.shape)):
            found.append(HeadReading(False, time_first, offset, width, own, heads, size))
    return found


def _shared(heads: int, own: int) -> np.ndarray:
    return np.arange(heads) // (heads // own)
