"""Operators that exporters wrote as several, which the runtime computes one by one."""

from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.edit import lift_constants
from onnxopt.graph.scales.fold import fold_scales
from onnxopt.graph.scales.hard_sigmoid import write_hard_sigmoids
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.target import Target


class SplitOperators(Repair):
    """Write hard sigmoids and hard swishes as one operator, and fold scalings into the layers beside them.

    Conv - Add - Clip - Mul - Div   ->   Conv - HardSigmoid - Mul, one step for the runtime
    Conv - Mul - Add                ->   Conv
    """

    code: ClassVar[str] = "CHK411"
    does: ClassVar[str] = "write hard sigmoids as one operator, fold scalings into layers"
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
    return [*write_hard_sigmoids(model), *fold_scales(model)]
