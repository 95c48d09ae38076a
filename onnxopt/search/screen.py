"""Near-equal candidates compared by the distance of their outputs on a few samples, before any is scored."""

from collections.abc import Callable
from math import inf

import onnx_ir as ir

from onnxopt.quantization.closeness import Closeness
from onnxopt.samples import Samples
from onnxopt.search.journal.notes import numbers

FURTHER_DB = 3.0
"""By how much a candidate's outputs may be further from the original's than the closest candidate's: half as much
noise again in amplitude is more than calibrations of one graph differ by in accuracy."""

_NOT_AT_ALL_DB = -1000.0
"""Of a candidate that does not run, which JSON can hold."""

Recall = Callable[[str, Callable[[], object], Callable[[object], tuple[float, ...]]], tuple[float, ...]]


class Screen:
    """The closest of the candidates so far, and who is too far from it to be scored.

    Args:
        model: the original.
        samples: a few of them are run; none that a candidate is judged on.
        recall: looks up what an earlier part of the search found.
    """

    def __init__(self, model: ir.Model, samples: Samples, recall: Recall) -> None:
        self._model, self._samples, self._recall = model, samples, recall
        self._closeness: Closeness | None = None
        self._best, self._name = -inf, ""

    def refusal(self, name: str, model: Callable[[], ir.Model]) -> str:
        """Return why a candidate is not scored; "" where it is.

        Args:
            name: of the candidate.
            model: returns what was built of it.
        """

        def measured() -> list[float]:
            if self._closeness is None:
                self._closeness = Closeness(self._model, self._samples.with_batch_size(1))
            return [max(self._closeness.db(model()), _NOT_AT_ALL_DB)]

        (db,) = self._recall(f"closeness: {name}", measured, numbers) or (_NOT_AT_ALL_DB,)
        if db < self._best - FURTHER_DB:
            return f"its outputs are {db:.1f} dB close to the original's, those of {self._name} {self._best:.1f} dB"
        if db > self._best:
            self._best, self._name = db, name
        return ""
