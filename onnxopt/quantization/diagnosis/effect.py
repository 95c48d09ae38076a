"""What the error of one layer does to the outputs of a model."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Activations

_ERROR = "_error"


class Disturbed:
    """A model to whose inner values errors can be added, one value at a time; one session for all of them."""

    def __init__(self, model: ir.Model, values: list[str]) -> None:
        copy = model.clone()
        self._outputs = [v.name or "" for v in copy.graph.outputs if v.dtype is ir.DataType.FLOAT]
        self._silent = dict[str, np.ndarray]()
        inner = {v.name: v for node in copy.graph for v in node.outputs}
        # The last layer writes the output itself: nothing comes behind it that could be disturbed.
        self.values = [name for name in values if name in inner and not inner[name].is_graph_output()]
        for name in self.values:
            value = inner[name]
            error = ir.Value(name=f"{name}{_ERROR}", type=ir.TensorType(ir.DataType.FLOAT))
            copy.graph.inputs.append(error)
            producer = value.producer()
            assert producer is not None
            add = ir.Node("", "Add", [value, error], name=f"{name}{_ERROR}_added")
            add.outputs[0].name, add.outputs[0].type = f"{name}{_ERROR}_sum", ir.TensorType(ir.DataType.FLOAT)
            for use in [u for u in value.uses() if u.node is not add]:
                use.node.replace_input_with(use.idx, add.outputs[0])
            copy.graph.insert_after(producer, add)
            self._silent[error.name or ""] = np.zeros(1, np.float32)
        self._run = Activations(copy, self._outputs) if self._outputs else None

    def outputs(self, feeds: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the float outputs when `errors` are added to the values of these names."""
        if self._run is None:
            return []
        added = {f"{name}{_ERROR}": error for name, error in errors.items()}
        (found,) = self._run.of([{**feeds, **self._silent, **added}])
        return [found[name].astype(np.float64) for name in self._outputs]
