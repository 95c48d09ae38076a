"""Places for the nodes of a graph: layers from top to bottom, few crossings, neighbours below each other.

Source: Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981; the
places in a layer are an isotonic regression of where neighbours want a node to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, GAP_X, GAP_Y = 148.0, 30.0, 22.0, 26.0
LONGEST = 24
"""Layers that an edge may cross with separate bends; longer ones go straight."""
_SWEEPS = 4


@dataclass(frozen=True)
class GraphLayout:
    """Centres of nodes and the points that edges run through, in pixels from the top left.

    Attributes:
        places: `(x, y)` of each node.
        edges: `(from, to, points between)`.
        size: width and height of everything.
    """

    places: tuple[tuple[float, float], ...]
    edges: tuple[tuple[int, int, tuple[tuple[float, float], ...]], ...]
    size: tuple[float, float]


def layout(inputs: Sequence[Sequence[int]]) -> GraphLayout:
    """Return places for nodes of which number `i` reads the earlier nodes `inputs[i]`."""
    levels: list[int] = []
    for index, read in enumerate(inputs):
        levels.append(max((levels[i] + 1 for i in read if i < index), default=0))
    _lower_sources(inputs, levels)
    above: list[list[int]] = [[i for i in read if i < index] for index, read in enumerate(inputs)]
    chains: dict[tuple[int, int], list[int]] = {}
    for index in range(len(inputs)):
        for place, start in enumerate(above[index]):
            span = levels[index] - levels[start]
            if not 1 < span <= LONGEST:
                continue
            chain = chains.setdefault((start, index), [])
            last = start
            for level in range(levels[start] + 1, levels[index]):
                above.append([last])
                levels.append(level)
                last = len(levels) - 1
                chain.append(last)
            above[index][place] = last
    xs = _columns(above, levels, real=len(inputs))
    ys = [level * (HEIGHT + GAP_Y) + HEIGHT / 2 for level in levels]
    edges = tuple(
        (start, index, tuple((xs[d], ys[d]) for d in chains.get((start, index), ())))
        for index, read in enumerate(inputs)
        for start in read
        if start < index
    )
    size = (max(xs, default=0.0) + WIDTH / 2, max(ys, default=0.0) + HEIGHT / 2)
    return GraphLayout(tuple(zip(xs, ys, strict=True))[: len(inputs)], edges, size)


def _lower_sources(inputs: Sequence[Sequence[int]], levels: list[int]) -> None:
    """Move nodes that read nothing next to whoever reads them first."""
    first: dict[int, int] = {}
    for index, read in enumerate(inputs):
        for start in read:
            first[start] = min(first.get(start, levels[index]), levels[index])
    for index, read in enumerate(inputs):
        if not read and index in first:
            levels[index] = first[index] - 1


def _columns(above: Sequence[Sequence[int]], levels: Sequence[int], real: int) -> list[float]:
    """Return the position of each node from left to right; those from number `real` on are bends, which are thin."""
    below: list[list[int]] = [[] for _ in above]
    for index, read in enumerate(above):
        for start in read:
            below[start].append(index)
    rows: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for index, level in enumerate(levels):
        rows[level].append(index)
    xs = [0.0] * len(above)
    for row in rows:
        _spread(row, [0.0] * len(row), xs, real)
    for sweep in range(_SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {i: _middle([xs[n] for n in neighbours[i]], xs[i]) for i in row}
            row.sort(key=lambda i, wanted=wanted: (wanted[i], xs[i], i))  # type: ignore[misc]
            _spread(row, [wanted[i] for i in row], xs, real)
    left = min((x - _width(i, real) / 2 for i, x in enumerate(xs)), default=0.0)
    return [x - left for x in xs]


def _middle(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _width(index: int, real: int) -> float:
    return WIDTH if index < real else 12.0


def _spread(row: Sequence[int], wanted: Sequence[float], xs: list[float], real: int) -> None:
    """Place a row as near as can be to where it wants to be, in its order and without overlaps."""
    offsets, offset = [], 0.0
    for number, index in enumerate(row):
        if number:
            offset += (_width(row[number - 1], real) + _width(index, real)) / 2 + GAP_X
        offsets.append(offset)
    blocks: list[tuple[float, int]] = []
    for want, shift in zip(wanted, offsets, strict=True):
        mean, size = want - shift, 1
        while blocks and blocks[-1][0] >= mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    for index, mean, shift in zip(row, means, offsets, strict=True):
        xs[index] = mean + shift
