"""Effect of one layer's error on the outputs of a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.graph.shapes import with_types
from onnxopt.measure.runtime.activations import Activations

_ERROR = "_error"
_KINDS: Mapping[ir.DataType | None, type[np.floating[Any]]] = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.DOUBLE: np.float64,
}


class Disturbed:
    """A model with errors added to inner values, one value at a time, in a single session."""

    def __init__(self, model: ir.Model, values: list[str]) -> None:
        named = {v.name: v for v in (*model.graph.outputs, *(v for node in model.graph for v in node.outputs))}
        typed = all(v.dtype is not None for name, v in named.items() if name in values or v.is_graph_output())
        copy = model.clone() if typed else with_types(model)
        self._outputs = [v.name or "" for v in copy.graph.outputs if v.dtype in _KINDS]
        self._silent = dict[str, np.ndarray]()
        inner = {v.name: v for node in copy.graph for v in node.outputs}
        # The last layer writes the output itself: no later node could be disturbed.
        able = (v for v in map(inner.get, values) if v is not None and not v.is_graph_output() and v.dtype in _KINDS)
        self.values = [value.name or "" for value in able]
        for name in self.values:
            value = inner[name]
            error = ir.Value(name=f"{name}{_ERROR}", type=value.type)
            copy.graph.inputs.append(error)
            producer = value.producer()
            assert producer is not None
            add = ir.Node("", "Add", [value, error], name=f"{name}{_ERROR}_added")
            add.outputs[0].name, add.outputs[0].type = f"{name}{_ERROR}_sum", value.type
            for use in [u for u in value.uses() if u.node is not add]:
                use.node.replace_input_with(use.idx, add.outputs[0])
            copy.graph.insert_after(producer, add)
            self._silent[error.name or ""] = np.zeros(1, _KINDS[value.dtype])
        self._run = Activations(copy, self._outputs) if self._outputs else None

    def outputs(self, feeds: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the float outputs with `errors` added to the named values."""
        if self._run is None:
            return []
        added = {
            f"{name}{_ERROR}": error.astype(self._silent[f"{name}{_ERROR}"].dtype) for name, error in errors.items()
        }
        (found,) = self._run.of([{**feeds, **self._silent, **added}])
        return [found[name].astype(np.float64) for name in self._outputs]
