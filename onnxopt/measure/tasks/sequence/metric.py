"""Sequences against texts."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, chosen, misfit
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.tasks.sequence.decoding import DICTIONARY, Decoding, characters_of
from onnxopt.measure.tasks.sequence.distance import edit_distance
from onnxopt.measure.tasks.sequence.evidence import batch_axis_of, blank_of, steps_output
from onnxopt.samples.core import Array

_Reading = str | tuple[int, ...]
"""One sample's text, or its class numbers."""


@dataclass(frozen=True)
class _TextMetric(Metric):
    """Base of the metrics of texts.

    Labels are texts, which need the characters of the classes, or sequences of class numbers `(n, length)`, padded with
    a negative number.

    Attributes:
        output: the scores of every step; None takes the first that fits.
        blank: index of the CTC blank; -1 for a class per step; None finds it.
        characters: file of characters or the characters themselves.
        decoding: reading of the output; None before `prepared`.
    """

    output: str | None = None
    blank: int | None = None
    characters: str | None = None
    decoding: Decoding | None = None

    def prepared(self, outputs: Outputs, labels: Array, notes: Mapping[str, str] | None = None) -> Metric:
        """Return the metric with the output, its axes, the blank and the characters fixed.

        If the user gives no characters, they come from the file's metadata, where the blank is the first class.

        Raises:
            DataError: ONX209 no output holds scores of steps.
            FileError: ONX501, ONX505 the file of characters cannot be read.
        """
        name = self.output or steps_output(outputs)
        value = np.asarray(chosen(outputs, name))
        axis = batch_axis_of(value.shape, len(labels), None)
        steps = Decoding(axis).steps(value)
        noted = (notes or {}).get(DICTIONARY, "")
        blank = 0 if noted and self.blank is None and value.ndim == 3 else None
        if blank is None and value.ndim == 3:
            blank = blank_of(self.blank, steps, int(value.shape[-1]))
        return replace(self, output=name, decoding=Decoding(axis, blank, characters_of(self.characters, noted)))

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return one row per text.

        Raises:
            DataError: ONX209 outputs and labels do not fit, or labels are texts and the characters are unknown.
        """
        if self.decoding is None or self.output is None:
            return self.prepared(outputs, labels).rows(outputs, labels)
        value = chosen(outputs, self.output)
        truth = np.asarray(labels)
        found: list[_Reading]
        expected: list[_Reading]
        if truth.dtype.kind in "US" or truth.dtype == object:
            if not self.decoding.characters:
                hint = "Give --characters: a file with one character per line, in the order of the scores."
                raise misfit("the labels are texts, and the characters are not known", hint, where=self.name)
            found, expected = [*self.decoding.texts(value)], [str(text) for text in truth.tolist()]
        else:
            found, expected = [*self.decoding.sequences(value)], [*_sequences(truth, self.name)]
        if len(found) != len(expected):
            hint = "Check the output name, and run the samples at batch size 1."
            raise misfit(f"{len(found)} sequences for {len(expected)} labels", hint, where=self.name)
        return np.array([self._row(a, b) for a, b in zip(found, expected, strict=True)], dtype=np.float64)

    @abstractmethod
    def _row(self, found: _Reading, truth: _Reading) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class ExactMatch(_TextMetric):
    """Share of texts that are right to the last character."""

    name = "exact"
    unit: ClassVar[str] = "share"
    binary: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    def _row(self, found: _Reading, truth: _Reading) -> tuple[float, ...]:
        return (float(found == truth),)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of right texts."""
        return np.asarray(counts @ rows[:, 0] / counts.sum(axis=1))

    def changes(self, before: Array, after: Array) -> tuple[Array, Array]:
        """Return the change of each text, 1 if it became wrong and -1 if it became right, and 1 as the most to lose."""
        return before[:, 0] - after[:, 0], np.ones(len(before))


@dataclass(frozen=True)
class ErrorRate(_TextMetric):
    """Edits per character (`cer`) or word (`wer`) of the true texts, over all texts.

    Attributes:
        name: `cer` or `wer`.
    """

    name: Literal["cer", "wer"] = "cer"
    higher_is_better: bool = False
    unit: ClassVar[str] = "share"
    bounded: ClassVar[bool] = True
    undefined: ClassVar[str] = "Give labels that hold text."

    def _row(self, found: _Reading, truth: _Reading) -> tuple[float, ...]:
        if self.name == "cer":
            return edit_distance(found, truth), len(truth)
        if not isinstance(found, str) or not isinstance(truth, str):
            raise misfit("words need texts as labels", "Use cer, or give texts as labels.", where=self.name)
        words = truth.split()
        return edit_distance(found.split(), words), len(words)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return edits per symbol of resampled texts; NaN if they hold none."""
        total = counts @ rows
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(total[:, 1] > 0, total[:, 0] / total[:, 1], np.nan))

    def changes(self, before: Array, after: Array) -> tuple[Array, Array]:
        """Return the additional edits of each text, and its length."""
        return after[:, 0] - before[:, 0], before[:, 1]


def _sequences(labels: Array, name: str) -> list[tuple[int, ...]]:
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        hint = "Give texts, or class numbers filled up with -1."
        raise misfit(f"labels {labels.dtype} of shape {list(labels.shape)}", hint, where=name)
    return [tuple(row[row >= 0].tolist()) for row in labels]
