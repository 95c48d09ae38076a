"""Operators that exporters wrote as several, which the runtime computes one by one."""

from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.edit import lift_constants
from onnxopt.graph.merge import merge_operators
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.target import Target


class SplitOperators(Repair):
    """Write hard sigmoids, GELUs and shortcuts as one operator, and fold scalings and lookups into weights.

    Conv - Add - Clip - Mul - Div   ->   Conv - HardSigmoid - Mul, one step for the runtime
    Conv - Mul - Add                ->   Conv
    Equal - Cast - MatMul - Add     ->   Gather
    Slice - Slice - Pad             ->   Conv
    """

    code: ClassVar[str] = "CHK411"
    does: ClassVar[str] = "write hard sigmoids, GELUs and shortcuts as one operator, fold scalings and lookups"
    reordering: ClassVar[float] = 1e-5

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the nodes that would go."""
        names = tuple(_merged(model.clone()))
        return Faults(names, names)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Merge the operators."""
        _merged(model)


def _merged(model: ir.Model) -> list[str]:
    lift_constants(model)
    return [name for names in merge_operators(model).values() for name in names]
