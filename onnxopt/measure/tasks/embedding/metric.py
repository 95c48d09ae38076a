"""Metric of embeddings with labels: the recall of neighbours with the same label."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, is_float, misfit, without_ones
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.tasks.embedding.agreement import vectors_of
from onnxopt.measure.tasks.embedding.neighbours import nearest_rows, unit
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class RecallAt(Metric):
    """Share of samples with a sample of the same label among the `k` nearest others, by cosine.

    Samples that are the only one of their label are left out. The vectors of all samples stay in memory.

    Source: Jégou et al., "Product quantization for nearest neighbor search", 2011.

    Attributes:
        k: number of neighbours.
        output: output with the vectors; None takes the first table.
    """

    k: int = 1
    output: str | None = None
    unit: ClassVar[str] = "share"
    bounded: ClassVar[bool] = True
    undefined: ClassVar[str] = "Give two samples or more of a label."

    @property
    def name(self) -> str:  # type: ignore[override]
        """`recall1` or `recall10`."""
        return f"recall{self.k}"

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, width + 1)`: the vector and the label.

        Raises:
            DataError: ONX209 no output is a table of vectors, or labels are not one number per sample.
        """
        name = self.output or next((key for key, value in outputs.items() if _is_table(value)), None)
        if name is None:
            raise misfit("no output is a table of vectors", f"Outputs: {', '.join(outputs)}.", where=self.name)
        vectors, truth = vectors_of(outputs, name), np.asarray(labels).reshape(len(labels), -1)
        if len(vectors) != len(truth) or truth.shape[1] != 1 or truth.dtype.kind not in "iubf":
            why = f"labels {truth.dtype} of shape {list(np.shape(labels))} for {len(vectors)} vectors"
            raise misfit(why, "Give one number per sample, equal for samples that belong together.", where=self.name)
        return np.hstack((vectors.astype(np.float64), truth))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share; neighbours are those among all samples, whichever are drawn."""
        truth = rows[:, -1]
        _, inverse, numbers = np.unique(truth, return_inverse=True, return_counts=True)
        paired = (numbers[inverse] > 1).astype(np.float64)
        if len(rows) < 2 or not paired.any():
            return np.full(len(counts), np.nan)
        vectors = unit(rows[:, :-1])
        found = nearest_rows(vectors, vectors, min(self.k, len(rows) - 1))
        hits = (truth[found] == truth[:, None]).any(axis=1)  # without samples that are the only one of their label
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((counts @ hits) / (counts @ paired))


def _is_table(value: Array) -> bool:
    return is_float(value) and without_ones(value).ndim == 2
