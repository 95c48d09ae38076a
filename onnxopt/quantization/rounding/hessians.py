"""Second moments of layer inputs, streamed: memory does not depend on the number of samples or layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Activations
from onnxopt.samples import Samples

LIMIT_BYTES = 1 << 28
"""Memory for the sums of one sweep over the samples; one layer alone may take more."""
MOST_FEATURES = 8192
"""Most inputs of a layer: with more, its sums and their factors would take gigabytes."""
ROWS = 512
"""Most rows of a layer's input per batch."""


@dataclass(frozen=True)
class Read:
    """The inputs of one layer.

    Attributes:
        layer: name of the layer.
        values: names of the values that `rows` needs.
        rows: converts the values of a batch to the rows that the weight multiplies, shape (rows, features).
    """

    layer: str
    values: tuple[str, ...]
    features: int
    rows: Callable[[Mapping[str, np.ndarray]], np.ndarray]


def sweeps(reads: Sequence[Read], limit_bytes: int = LIMIT_BYTES) -> Iterator[list[Read]]:
    """Yield the layers, in their order, in groups whose sums fit into `limit_bytes`."""
    group, size = list[Read](), 0
    for read in reads:
        needed = 8 * read.features**2
        if group and size + needed > limit_bytes:
            yield group
            group, size = [], 0
        group.append(read)
        size += needed
    if group:
        yield group


def hessians(model: ir.Model, reads: Sequence[Read], samples: Samples) -> dict[str, np.ndarray]:
    """Return the mean over finite rows x of x x^T, shape (features, features), by layer.

    Raises:
        NativeError: ONX401 a run failed.
    """
    return _means(model, reads, samples, lambda rows: rows.T @ rows)


def mean_squares(model: ir.Model, reads: Sequence[Read], samples: Samples) -> dict[str, np.ndarray]:
    """Return the mean square of each input over finite rows, shape (features,), by layer: the Hessian's diagonal.

    Raises:
        NativeError: ONX401 a run failed.
    """
    return _means(model, reads, samples, lambda rows: np.square(rows).sum(axis=0))


def _means(
    model: ir.Model, reads: Sequence[Read], samples: Samples, summed: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the mean over finite rows of the numbers whose sums over some rows `summed` returns, by layer."""
    sums, counts = dict[str, np.ndarray](), dict.fromkeys((read.layer for read in reads), 0)
    names = list(dict.fromkeys(name for read in reads for name in read.values))
    for arrays in Activations(model, names).of(samples):
        for read in reads:
            rows = read.rows(arrays).astype(np.float32)
            rows = rows[np.isfinite(rows).all(1)]
            sums[read.layer] = sums.get(read.layer, 0.0) + summed(rows).astype(np.float64)
            counts[read.layer] += len(rows)
    return {layer: total / max(counts[layer], 1) for layer, total in sums.items()}


def at_most(rows: np.ndarray, limit: int = ROWS) -> np.ndarray:
    """Return `rows`, or `limit` evenly spaced ones."""
    return rows if len(rows) <= limit else rows[np.linspace(0, len(rows) - 1, limit).astype(int)]
