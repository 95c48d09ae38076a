"""Weights listed as inputs, as in files before IR version 4."""

from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.edit import freeze_weights
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.target import Target


class WeightInputs(Repair):
    """Make weights constants that a caller could replace, so that the runtime fuses operators and folds constants."""

    code: ClassVar[str] = "CHK207"
    does: ClassVar[str] = "make them constants, which callers cannot replace any more"

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the names of the weights among the inputs."""
        names = [value.name or "" for value in model.graph.inputs if value.name in model.graph.initializers]
        return Faults(tuple(names), tuple(names))

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Remove the weights from the inputs."""
        freeze_weights(model)
