"""The inputs for timing: a few, whose shapes represent those of the data."""

from collections.abc import Callable, Sequence

import numpy as np

from onnxopt.options.lengths import Shares, runs_of
from onnxopt.samples import Feeds, Samples
from onnxopt.samples.sequences import Axes, at_length

COUNT = 32
"""Number of alternating inputs; no more of the data is held in memory."""

SCANNED = 128
"""Number of samples whose shapes are read."""

Shapes = tuple[tuple[int, ...], ...]


def drawn_inputs(samples: Samples, batch_size: int, count: int = COUNT) -> tuple[Feeds, ...]:
    """Return up to `count` batches of the data; any first few of them represent its distribution of shapes too.

    Samples at equal distances over the whole data are put in the order of their size, and taken at equal distances.

    Args:
        samples: the data; inputs such as sentences and images may differ in size.
        batch_size: samples in a batch, all of one shape; a batch size fixed by the model is kept.
        count: most batches; fewer if there are fewer samples.
    """
    if samples.fixed_batch or not samples.source.stacks:
        return _whole_batches(samples, count)
    places = samples.indices[_spaced(len(samples), SCANNED)]
    shapes = [_shapes(samples.source.read(int(place))) for place in places]
    order = sorted(range(len(places)), key=lambda i: (sum(map(np.prod, shapes[i])), shapes[i]))
    chosen = [order[i] for i in _spaced(len(order), count)]
    return tuple(_batch(samples, places, shapes, chosen[i], batch_size) for i in scattered(len(chosen)))


def at_lengths(drawn: Sequence[Feeds], axes: Axes, shares: Shares) -> tuple[Feeds, ...]:
    """Return batches with sequences of other lengths, so many of each that their times add up with its share.

    Args:
        drawn: batches of the data.
        axes: the axes of the sequence.
        shares: the shares of the runs by length.
    """

    def made(length: int, count: int) -> list[Feeds]:
        some = [at_length(feeds, axes, length) for feeds in drawn[:count]]
        return [some[i % len(some)] for i in range(count)]

    return alternating(made, shares)


def alternating(made: Callable[[int, int], Sequence[Feeds]], shares: Shares) -> tuple[Feeds, ...]:
    """Return batches of several lengths, so many of each as its share, in an order whose first few cover all.

    Args:
        made: makes a number of batches of one length.
        shares: the shares of the runs by length.
    """
    runs = [feeds for length, count in runs_of(shares, COUNT).items() for feeds in made(length, count)]
    return tuple(runs[i] for i in scattered(len(runs)))


def scattered(count: int) -> list[int]:
    """Return 0..count-1 in an order whose first few always cover the range (van der Corput's sequence)."""
    bits = max(count - 1, 1).bit_length()
    turned = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in turned if i < count]


def _spaced(length: int, count: int) -> np.ndarray:
    """Return up to `count` positions at equal distances."""
    count = min(length, count)
    return ((np.arange(count) + 0.5) * length / max(count, 1)).astype(int)


def _whole_batches(samples: Samples, count: int) -> tuple[Feeds, ...]:
    rows = samples.batch_size if samples.fixed_batch else 1
    starts = _spaced(len(samples) // rows, count) * rows
    picked = [samples.select(samples.indices[start : start + rows]) for start in starts]
    return tuple(next(iter(one)) for one in picked)


def _batch(samples: Samples, places: np.ndarray, shapes: Sequence[Shapes], first: int, size: int) -> Feeds:
    alike = [i for i in range(len(places)) if shapes[i] == shapes[first]]
    start = alike.index(first)
    rows = [samples.source.read(int(places[alike[(start + i) % len(alike)]])) for i in range(size)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _shapes(feeds: Feeds) -> Shapes:
    return tuple(np.shape(array) for _, array in sorted(feeds.items()))
