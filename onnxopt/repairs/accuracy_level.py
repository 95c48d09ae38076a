"""Products with weights of a few bits that are computed in float."""

from typing import ClassVar

import onnx_ir as ir

from onnxopt.repairs.fault import Faults, Repair
from onnxopt.target import Target

_LEVEL = 4
"""The level of MatMulNBits that rounds activations to 8 bits, block by block, as in dynamic quantization."""


class AccuracyLevel(Repair):
    """Make MatMulNBits multiply integers: without `accuracy_level`, it unpacks weights to floats in every run.

        MatMulNBits()   ->   MatMulNBits(accuracy_level=4)

    The activations of a block share one scale.
    """

    code: ClassVar[str] = "CHK403"
    does: ClassVar[str] = "set accuracy_level to 4"
    exact: ClassVar[bool] = False

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the products with another level."""
        nodes = [node for node in model.graph if node.op_type == "MatMulNBits" and _level(node) != _LEVEL]
        return Faults(tuple(n.outputs[0].name or "" for n in nodes), tuple(_called(n) for n in nodes))

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Set the level."""
        for node in model.graph:
            if node.outputs[0].name in found.sites:
                node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", _LEVEL)


def _level(node: ir.Node) -> int:
    return int(node.attributes.get_int("accuracy_level", 0))


def _called(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
