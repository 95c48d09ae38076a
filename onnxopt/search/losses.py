"""What a pass does to the outputs of a model, looked up where it was measured before."""

from math import inf
from pathlib import Path

import onnx_ir as ir

from onnxopt.catalog import format_pass
from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.remembered import Remembered, is_number
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.pruning.sensitivity import OutputError
from onnxopt.search.evidence import evidence_key


class Losses:
    """Args:
    model: that passes are run on; stays as it is.
    error: of outputs, to those of the original.
    context: of the passes.
    folder: where losses are kept; None for nowhere.
    """

    def __init__(self, model: ir.Model, error: OutputError, context: Context, folder: Path | None) -> None:
        self._model, self._error, self._context = model, error, context
        self._key = None if folder is None else evidence_key(model, context)
        path = None if folder is None or self._key is None else folder / "losses.json"
        self._known = Remembered[float](path, is_number)

    def of(self, spec: Pass) -> float:
        """Return the error of the outputs after the pass; infinite where it cannot be run."""
        key = f"{self._key} {format_pass(spec)}"
        if key in self._known:
            return self._known[key]
        try:
            loss = self._error.of(Pipeline((spec,)).run(self._model, self._context).model)
        except (ModelError, NativeError):
            return inf
        if is_number(loss):
            self._known.keep({key: loss})
        return loss
