"""Multilabel: every column is a separate yes-or-no label."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, is_float, misfit
from onnxopt.measure.tasks.table.columns import MOST_COLUMNS, column_rows, table_of
from onnxopt.measure.tasks.table.evidence import computed_by, run_size
from onnxopt.measure.tasks.table.lost import lost_column
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

PROBABILITY, LOGIT = 0.5, 0.0


@dataclass(frozen=True)
class LabelAgreement(Comparison):
    """Share of samples with the same answer of both models on a label; the label with the lowest share counts.

    If the scores of a label are lost (`lost_column`), the drop is at least their loss; otherwise the loss of a rare
    label would hardly show.

    Attributes:
        output: output with the table of scores.
        threshold: score above which the answer is yes.
    """

    output: str
    threshold: float = PROBABILITY
    name = "agreement on the worst label"
    unit: ClassVar[str] = "share"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(size, 4 * labels)`: the share of equal answers by label, and scores as `column_rows`."""
        one, other = (table_of(outputs[self.output], size) for outputs in (before, after))
        if one.shape != other.shape:
            raise misfit("the outputs differ in shape", "Compare a model with one made from it.", where=self.output)
        flat = [array.reshape(size, -1, array.shape[-1]) for array in (one, other)]
        same = ((flat[0] > self.threshold) == (flat[1] > self.threshold)) & ~np.isnan(flat[1])
        return np.hstack((same.mean(axis=1), column_rows(*flat)))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of equal answers on the worst label."""
        labels = self._labels(rows)
        return np.asarray((counts @ rows[:, :labels] / counts.sum(axis=1, keepdims=True)).min(axis=1))

    def least_drop(self, rows: Array) -> float:
        """Return the largest loss of a label's scores."""
        return lost_column(rows[:, self._labels(rows) :])

    @staticmethod
    def _labels(rows: Array) -> int:
        pooled = 3 * MOST_COLUMNS
        columns = int(rows.shape[1])
        return columns - pooled if columns > pooled + MOST_COLUMNS else columns // 4


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return multilabel for the first table that a Sigmoid computes, unless it has the shape of an input."""
    inputs = {np.shape(value) for value in feeds.values()}
    for name, value in outputs.items():
        if not is_float(value) or not value.ndim or value.shape in inputs or computed_by(name, facts) != "Sigmoid":
            continue
        if table_of(value, run_size(feeds)).ndim == 2:
            reason = f"{name} is made by Sigmoid"
            return Recognized("multilabel", (name,), LabelAgreement(name), reason)
    return None


def comparison(
    outputs: Outputs, names: tuple[str, ...], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> LabelAgreement:
    """Return the comparison by label of the first table of `names`; scores outside 0..1 are logits.

    Raises:
        DataError: ONX209 there is no table.
    """
    for name in names:
        value = outputs[name]
        if is_float(value) and value.ndim:
            outside = bool(np.any((value < 0) | (value > 1)))
            return LabelAgreement(name, LOGIT if outside else PROBABILITY)
    raise misfit("there is no float output", f"Outputs: {', '.join(outputs)}.", where=", ".join(names))
