"""Stored integers that the runtime converts to floats in every run."""

from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.pipeline import Skip
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.repairs.stored import DequantizedConstant, dequantized_constant, left_in_graph
from onnxopt.repairs.unused import drop_dead
from onnxopt.target import Target

_LEAST_ELEMENTS = 1024
"""Fewest elements of the largest of them: biases and norms alone take no time."""


class StoredWeights(Repair):
    """Convert stored integers to floats once, when the model is loaded; the file keeps its size.

        Conv(DequantizeLinear(W int8))   ->   Conv(Mul(Cast(W int8), scale))

    ONNX Runtime keeps DequantizeLinear for fusion into integer kernels. Without such a kernel it runs every time, and
    the float kernel cannot prepack its weights. Cast and Mul are plain arithmetic on constants, which the runtime
    folds.
    """

    code: ClassVar[str] = "CHK405"
    does: ClassVar[str] = "compute float weights when the model is loaded"

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the DequantizeLinear nodes of constants that remain in the runtime's graph."""
        nodes = left_in_graph(model)
        if all(constant_of(node.inputs[0]).size < _LEAST_ELEMENTS for node in nodes):  # type: ignore[union-attr]
            return Faults()
        read = [(node, _readable(node)) for node in nodes]
        good = [node for node, what in read if isinstance(what, DequantizedConstant)]
        left = tuple(Skip(node.inputs[0].name or "", why) for node, why in read if isinstance(why, str))  # type: ignore[union-attr]
        names = tuple(node.inputs[0].name or "" for node in good)  # type: ignore[union-attr]
        return Faults(tuple(node.outputs[0].name or "" for node in good), names, left)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Replace each by arithmetic."""
        writer, sites = NodeWriter(model, "repair"), set(found.sites)
        nodes = [node for node in model.graph if node.outputs[0].name in sites]
        for node in nodes:
            what = dequantized_constant(node)
            assert isinstance(what, DequantizedConstant)
            node.outputs[0].replace_all_uses_with(what.as_floats(writer))
        drop_dead(model, nodes)


def _readable(node: ir.Node) -> DequantizedConstant | str:
    return "its floats are an output of the model" if node.outputs[0].is_graph_output() else dequantized_constant(node)
