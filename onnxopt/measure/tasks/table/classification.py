"""Classification: outputs compared by their class; lost classes count."""

from dataclasses import dataclass
from typing import ClassVar
from zlib import crc32

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, are_probabilities, class_scores, is_float, is_map, misfit
from onnxopt.measure.tasks.table.columns import column_rows, table_of
from onnxopt.measure.tasks.table.evidence import classes_evidence, run_size
from onnxopt.measure.tasks.table.lost import log_shares, lost_class, lost_column, lost_faint, scaled_faint
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class Agreement(Comparison):
    """Share of samples to which both models give the same class; a candidate's NaN agrees with no class.

    A sample of many rows of scores counts by its share of equal ones. If a class is lost (`lost_class`, `lost_column`),
    the drop is at least the loss of that class.

    Attributes:
        output: the output with class scores or classes.
        probabilities: whether scores are probabilities; their logarithms show rare classes.
    """

    output: str
    probabilities: bool = False
    name = "top-1 agreement"
    unit: ClassVar[str] = "share"
    binary: ClassVar[bool] = True

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(size, 2 + 3 * classes)`: same class (0 or 1), the baseline's class, and scores as `column_rows`.

        For probabilities, `column_rows` of their logarithms follow.
        """
        one, other = (_scores(outputs[self.output], size) for outputs in (before, after))
        if one is None or other is None:
            return self._of_classes(before, after, size)
        if one.shape != other.shape:
            raise misfit("the outputs differ in shape", "Compare a model with one made from it.", where=self.output)
        best = one.argmax(axis=-1)
        same = (best == other.argmax(axis=-1)) & ~np.isnan(other).any(axis=-1)
        flat = one.reshape(size, -1, one.shape[-1]), other.reshape(size, -1, one.shape[-1])
        parts = [column_rows(*flat)]
        if self.probabilities:
            parts.append(column_rows(*log_shares(*flat)))
        return np.column_stack((_share(same, size), _single(best, size), *parts))

    def _of_classes(self, before: Outputs, after: Outputs, size: int) -> Array:
        one, other = (np.asarray(outputs[self.output]).reshape(size, -1) for outputs in (before, after))
        if one.shape != other.shape:
            return np.column_stack((np.zeros(size), np.full(size, np.nan)))
        numbers = one if one.dtype.kind in "iub" else _hashed(one)
        return np.column_stack((_share(one == other, size), _single(numbers, size)))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of equal classes."""
        return np.asarray(counts @ rows[:, 0] / counts.sum(axis=1))

    def least_drop(self, rows: Array) -> float:
        """Return the largest loss of a class."""
        found = [lost_class(rows[:, 1], rows[:, 0])]
        columns = rows[:, 2:]
        if columns.shape[1]:
            shares, *logs = np.split(columns, 2, axis=1) if self.probabilities else [columns]
            found += [lost_column(shares), *map(lost_faint, logs), *map(scaled_faint, logs)]
        return max(found)


def _scores(value: object, size: int) -> Array | None:
    """Return class scores `(size, ..., classes)`; None if the output holds classes."""
    if is_map(value):
        scores = class_scores({"": value}, None)
        return None if scores is None else scores.values
    return table_of(value, size) if is_float(value) and isinstance(value, np.ndarray) else None


def _agreement(name: str, value: object) -> Agreement:
    """Return the comparison of an output; the baseline's values show whether it holds probabilities."""
    if not is_float(value) or not isinstance(value, np.ndarray) or not value.ndim:
        return Agreement(name)
    table = table_of(value, len(value))
    return Agreement(name, table.shape[-1] > 1 and are_probabilities(table))


def _share(same: Array, size: int) -> Array:
    return np.asarray(same.reshape(size, -1).mean(axis=1))


def _single(classes: Array, size: int) -> Array:
    """Return the class of each sample; NaN for samples with several classes."""
    flat = classes.reshape(size, -1)
    return flat[:, 0].astype(np.float64) if flat.shape[1] == 1 else np.full(size, np.nan)


def _hashed(words: Array) -> Array:
    return np.array([[crc32(str(word).encode()) for word in row] for row in words.tolist()])


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return classification if there is evidence that an output holds classes or their scores; else None.

    A table of scores comes first; whole numbers or names beside it are its classes.
    """
    size = run_size(feeds)
    reasons = {name: classes_evidence(name, value, facts, size) for name, value in outputs.items()}
    found = [(name, reason) for name, reason in reasons.items() if reason]
    found.sort(key=lambda pair: not (is_float(outputs[pair[0]]) or is_map(outputs[pair[0]])))
    if not found:
        return None
    name, reason = found[0]
    beside = tuple(n for n, _ in found[1:] if not is_float(outputs[n]) and not is_map(outputs[n]))
    return Recognized("classification", (name, *beside), _agreement(name, outputs[name]), reason)


def comparison(
    outputs: Outputs, names: tuple[str, ...], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> Agreement:
    """Return the comparison by class of the first output of `names` that can hold classes.

    Raises:
        DataError: ONX209 no output can hold classes.
    """
    for name in names:
        value = outputs[name]
        if is_map(value) or (isinstance(value, np.ndarray) and value.dtype.kind in "iubOUS"):
            return Agreement(name)
        if is_float(value) and table_of(value, len(value) if value.ndim else 1).shape[-1] > 1:
            return _agreement(name, value)
    hint = f"Outputs: {', '.join(outputs)}. Name one, or compare as regression."
    raise misfit("no output holds classes", hint, where=", ".join(names))
