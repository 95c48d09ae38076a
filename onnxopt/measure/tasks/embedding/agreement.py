"""Agreement of two embedding models."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, chosen, misfit, without_ones
from onnxopt.measure.tasks.embedding.neighbours import kept_neighbours, unit
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

WIDEST = 8192
"""Widest vector: rows hold both models' vectors in float32, 8 bytes per element and sample."""

NEIGHBOURS = (1, 10)


@dataclass(frozen=True)
class EmbeddingAgreement(Comparison):
    """The lowest of three: mean similarity to the baseline's vector, and preserved nearest neighbours, of 1 and of 10.

    The similarity is the cosine for vectors of equal length, and less for others. The candidate's vector of a sample
    searches its neighbours among the baseline's vectors of the other samples, as in an index built before the model was
    replaced. One input is one sample. The vectors of all samples stay in memory in float32: 30 MB for 5,000 samples of
    768 numbers.

    Attributes:
        output: the vectors `(n, width)`.
    """

    output: str
    name = "neighbours and direction kept"
    unit: ClassVar[str] = "share"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 2 * width)` vectors before and after.

        Raises:
            DataError: ONX209 the output is not a table of vectors, or a wider one than memory is planned for.
        """
        one, other = vectors_of(before, self.output), vectors_of(after, self.output)
        return np.hstack((one, other if other.shape == one.shape else np.zeros_like(one)))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the score of resampled samples; neighbours are those among all samples."""
        number = counts.sum(axis=1)
        return np.asarray(np.min([counts @ column / number for column in self._columns(rows).values()], axis=0))

    def details(self, rows: Array) -> dict[str, float]:
        """Return the mean similarity, and the share of preserved neighbours."""
        return {name: float(column.mean()) for name, column in self._columns(rows).items()}

    def _columns(self, rows: Array) -> dict[str, Array]:
        before, after = np.split(np.asarray(rows, dtype=np.float64), 2, axis=1)
        shares = kept_neighbours(unit(before), unit(after), [k for k in NEIGHBOURS if k < len(rows)])
        kept = {f"nearest {k} kept" if k > 1 else "nearest kept": column for k, column in shares.items()}
        return {"cosine and length": similarity(before, after)} | kept


def similarity(one: Array, other: Array) -> Array:
    """Return twice the inner product over the sum of squares: the cosine for vectors of one length, else less."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = (one**2).sum(axis=1) + (other**2).sum(axis=1)
        inner = 2 * (one * other).sum(axis=1)
        shares = np.where(size > 0, inner / np.where(size > 0, size, 1), 1.0)
    return np.nan_to_num(shares, nan=0.0)


def vectors_of(outputs: Outputs, name: str) -> Array:
    """Return the vectors `(n, width)` in float32.

    Raises:
        DataError: ONX209 the output is not a table of vectors, or a wider one than memory is planned for.
    """
    array = without_ones(np.asarray(chosen(outputs, name)))
    if array.ndim != 2:
        raise misfit(f"the output has shape {list(array.shape)}", "Name an output [N, width].", where=name)
    if array.shape[1] > WIDEST:
        why = f"vectors of {array.shape[1]} numbers"
        raise misfit(why, f"At most {WIDEST} are kept for each sample; use the task regression.", where=name)
    return array.astype(np.float32)
