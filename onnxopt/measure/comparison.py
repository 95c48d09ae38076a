"""Scores of a candidate's outputs against the baseline's, with the same statistics as a metric against labels."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.errors import UsageError, nearest
from onnxopt.measure.fidelity import powers, tensors
from onnxopt.measure.outputs import Outputs, are_probabilities, is_float, is_map, misfit, predictions_of, scores_of
from onnxopt.measure.score import Score
from onnxopt.samples import Feeds

Array = np.ndarray


class Comparison(Score):
    """How well two sets of outputs agree; 1 is full agreement."""

    relative: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    @abstractmethod
    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(size, k)` statistics of a batch of `size` samples, from the baseline's and the candidate's outputs.

        `feeds` are the inputs of the batch, for tasks whose targets or padding follow from them.

        Raises:
            DataError: ONX209 the outputs cannot be compared in this way.
        """


@dataclass(frozen=True)
class Agreement(Comparison):
    """Share of samples to which both models give the same class; a candidate's NaN agrees with nothing.

    Attributes:
        output: the output with class scores or classes; None takes the first that fits.
    """

    output: str | None = None
    name = "top-1 agreement"
    unit: ClassVar[str] = "share"
    binary: ClassVar[bool] = True

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 1)`, 1 where the class is the same."""
        one, other = classes_of(before, self.output), classes_of(after, self.output)
        if one is None or other is None or one.shape != other.shape:
            hint = f"Outputs: {', '.join(before)}. Name one, or compare as regression."
            raise misfit("no output holds classes", hint, where=self.name)
        undefined = np.isnan(other) if other.dtype.kind == "f" else np.zeros(len(other), dtype=bool)
        return np.asarray((one == other) & ~undefined, dtype=np.float64)[:, None]

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of equal classes."""
        return np.asarray(counts @ rows[:, 0] / counts.sum(axis=1))


def classes_of(outputs: Outputs, name: str | None) -> Array | None:
    """Return the class each sample is given, `(n,)`, NaN where a score is; None when no output holds classes."""
    scores = scores_of(outputs, name)
    if scores is not None and scores.values.ndim == 2:
        best = scores.values.argmax(axis=1).astype(np.float64)
        return np.where(np.isnan(scores.values).any(axis=1), np.nan, best)
    predicted = predictions_of(outputs, name)
    return predicted if predicted is not None and predicted.ndim == 1 else None


@dataclass(frozen=True)
class RelativeError(Comparison):
    """One minus the RMS difference in units of the output's standard deviation; the worst output counts.

    Attributes:
        output: the only output to compare; None compares all float outputs.
    """

    output: str | None = None
    name = "1 - relative RMS error"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 3 * outputs)`: squared error, baseline value and its square, each the mean over the elements."""
        parts = []
        for name in before:
            pair = tensors(name, before, after, size) if self.output in (None, name) else None
            if pair is not None:
                signal, error = powers(*pair)
                elements = max(pair[0].shape[1], 1)
                rows = np.column_stack((error, pair[0].sum(axis=1), signal)) / elements
                parts.append(np.broadcast_to(rows, (size, 3)))
        if not parts:
            raise misfit("there is no float output", f"Outputs: {', '.join(before)}.", where=self.output or "")
        return np.hstack(parts)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the score of resampled rows: 1 when equal, 0 when no better than a constant."""
        scores = []
        drawn = counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for error, mean, square in np.split(rows.T, rows.shape[1] // 3):
                noise, power = counts @ error / drawn, counts @ square / drawn
                variance = power - (counts @ mean / drawn) ** 2
                # An output that never varies is measured against its size.
                variance = np.where(variance > 1e-9 * power, variance, power)
                scores.append(1 - np.sqrt(np.where(noise == 0, 0.0, noise / variance)))
        return np.asarray(np.min(scores, axis=0))


TASKS = ("auto", "classification", "regression")


def comparison_of(outputs: Outputs, feeds: Feeds, *, output: str | None = None, task: str = "auto") -> Comparison:
    """Return how models with such outputs are best compared: by class, or by number.

    Args:
        outputs: of the baseline, for one batch.
        feeds: the inputs of that batch.
        output: the one to compare; None chooses.
        task: `classification`, `regression`, or `auto`, see `looks_like_classes`.

    Raises:
        UsageError: ONX101 no such task.
        DataError: ONX209 there is no such output, or a classification has none that holds classes.
    """
    if task not in TASKS:
        raise UsageError("ONX101", "unknown task", where=task, hint=nearest(task, TASKS))
    if output is not None and output not in outputs:
        raise misfit("the model has no such output", nearest(output, outputs), where=output)
    considered = outputs if output is None else {output: outputs[output]}
    if task == "classification" and classes_of(considered, None) is None:
        raise misfit("no output holds classes", f"Outputs: {', '.join(outputs)}.", where=output or "")
    by_class = task == "classification" or (task == "auto" and looks_like_classes(considered, feeds))
    return Agreement(output) if by_class else RelativeError(output)


_NO_CLASSES = ("embed", "hidden", "feature", "pooler", "reconstruct", "decoded")


def looks_like_classes(outputs: Outputs, feeds: Feeds) -> bool:
    """Return whether outputs seem to be classes: a map, or one float table of columns at most.

    Unless its rows are probabilities, a table of the shape of an input is a reconstruction, and one called an embedding
    is that.
    """
    if any(is_map(value) for value in outputs.values()):
        return True
    floats = {name: value for name, value in outputs.items() if is_float(value)}
    if len(floats) > 1 or classes_of(outputs, None) is None:
        return False
    inputs = {np.shape(value) for value in feeds.values()}
    return all(
        are_probabilities(value) or not (value.shape in inputs or any(word in name.lower() for word in _NO_CLASSES))
        for name, value in floats.items()
    )
