"""Nodes without a rule: they run in ONNX Runtime, and their inputs are trained as outputs.

No gradient passes such a node, so what lies before it can only learn to give the node what the teacher gives it.
"""

from collections.abc import Iterable, Iterator, Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.measure.runtime.activations import ending_at
from onnxopt.measure.runtime.replay import starting_at
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.training.ops.convert import FLOATS, to_array, to_tensor


def read_by(node: ir.Node) -> list[ir.Value]:
    """Return the values that a node needs and that are computed or fed, those its bodies take from outside included."""
    made = {value for inner in _inside(node) for value in inner.outputs}
    bodies = [a.as_graph() for inner in (node, *_inside(node)) for a in _graphs(inner)]
    made |= {value for body in bodies for value in (*body.inputs, *body.initializers.values())}
    inputs = [value for inner in (node, *_inside(node)) for value in inner.inputs]
    results = [value for body in bodies for value in body.outputs]
    needed = dict.fromkeys(v for v in (*inputs, *results) if v is not None and v not in made)
    return [value for value in needed if value.const_value is None]


def boundaries(frozen: Iterable[ir.Node]) -> tuple[str, ...]:
    """Return the names of the float values that are computed and flow into frozen nodes."""
    values = [v for node in frozen for v in read_by(node) if v.producer() is not None and v.dtype in (None, *FLOATS)]
    return tuple(dict.fromkeys(value.name or "" for value in values))


class FrozenFunction:
    """A node as a function of tensors, for one type and rank of its inputs.

    Args:
        model: the model that has the node.
        node: the node to run.
        given: values that it reads, in the order of `read_by`.

    Attributes:
        outputs: its outputs, in order: those of the node that something reads.

    Raises:
        ModelError: ONX304 the runtime cannot load the node.
    """

    def __init__(self, model: ir.Model, node: ir.Node, given: Sequence[Tensor]) -> None:
        self._reads = read_by(node)
        self.outputs = [value for value in node.outputs if value.uses() or value.is_graph_output()]
        names = [value.name or "" for value in self.outputs]
        # What it reads may be an output too, which has to go before it can become an input.
        part = ending_at(starting_at(ending_at(model, names), self._fed(given)), names)
        self._session = Session(part, Runtime(optimization="none"))

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, through which no gradient passes."""
        found = self._session.named(self._fed(given))
        device = given[0].device if given else torch.device("cpu")
        return tuple(to_tensor(np.asarray(found[value.name or ""])).to(device) for value in self.outputs)

    def _fed(self, given: Sequence[Tensor]) -> dict[str, np.ndarray]:
        fed = dict[str, np.ndarray]()
        for value, tensor in zip(self._reads, given, strict=True):
            array = to_array(tensor)
            # Mixed precision computes in what the file does not know.
            mixed = array.dtype == ml_dtypes.bfloat16 and value.dtype is not ir.DataType.BFLOAT16
            fed[value.name or ""] = array.astype(np.float32) if mixed else array
        return fed


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in _graphs(node):
        for inner in attribute.as_graph():
            yield inner
            yield from _inside(inner)


def _graphs(node: ir.Node) -> list[ir.Attr]:
    return [a for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
