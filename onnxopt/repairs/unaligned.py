"""Integer convolutions whose number of channels the runtime's direct kernel does not take."""

from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.aligned_channels import align_channels, unaligned_convolutions
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.repairs.unused import drop_dead
from onnxopt.target import Target


class UnalignedChannels(Repair):
    """Add channels of zeros, so that the number of channels is a multiple of four.

    QuantizeLinear - DequantizeLinear - Conv   ->   QuantizeLinear - Pad - DequantizeLinear - Conv
    """

    code: ClassVar[str] = "CHK412"
    does: ClassVar[str] = "add channels of zeros up to a multiple of four"

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the convolutions; none on ARM, whose kernels take signed activations."""
        if target.activation_type != "uint8":
            return Faults()
        nodes = unaligned_convolutions(model)
        return Faults(tuple(n.outputs[0].name or "" for n in nodes), tuple(n.name or n.op_type for n in nodes))

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Add the channels."""
        nodes = [node for node in model.graph if node.outputs[0].name in found.sites]
        before = [p for n in nodes for value in n.inputs if value is not None and (p := value.producer()) is not None]
        align_channels(model, nodes)
        drop_dead(model, before)
