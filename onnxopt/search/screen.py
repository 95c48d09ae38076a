"""Comparison of near-equal candidates by the distance of their outputs on a few samples, before any is scored."""

from collections.abc import Callable
from math import inf

import onnx_ir as ir

from onnxopt.quantization.closeness import Closeness
from onnxopt.samples import Samples
from onnxopt.search.journal.notes import numbers

FURTHER_DB = 3.0
"""Largest excess in dB of a candidate's noise over the closest candidate's: a factor of 1.5 in amplitude is more than
the difference between equally accurate calibrations of one graph.
"""

_NOT_AT_ALL_DB = -1000.0
"""Closeness of a candidate that does not run, as a finite number for JSON."""

Recall = Callable[[str, Callable[[], object], Callable[[object], tuple[float, ...]]], tuple[float, ...]]


class Screen:
    """The closest candidate so far, and the refusal of candidates that are much further off.

    Args:
        model: the baseline.
        samples: samples not used for judging; a few of them are run.
        recall: reads results of an earlier part of the search.
    """

    def __init__(self, model: ir.Model, samples: Samples, recall: Recall) -> None:
        self._model, self._samples, self._recall = model, samples, recall
        self._closeness: Closeness | None = None
        self._best, self._name = -inf, ""

    def refusal(self, name: str, model: Callable[[], ir.Model]) -> str:
        """Return the reason why a candidate is not scored; "" if it is.

        Args:
            name: name of the candidate.
            model: returns the built model.
        """

        def measured() -> list[float]:
            if self._closeness is None:
                self._closeness = Closeness(self._model, self._samples.with_batch_size(1))
            return [max(self._closeness.db(model()), _NOT_AT_ALL_DB)]

        (db,) = self._recall(f"closeness: {name}", measured, numbers) or (_NOT_AT_ALL_DB,)
        if db < self._best - FURTHER_DB:
            return f"the SQNR of its outputs is {db:.1f} dB, that of {self._name} {self._best:.1f} dB"
        if db > self._best:
            self._best, self._name = db, name
        return ""
