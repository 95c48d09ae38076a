"""Graphs without the numbers of their large weights: all that the checker and type inference need."""

import onnx_ir as ir

LARGE_BYTES = 4096
"""Constants above this are no shapes: inference does not need their values."""


def without_large_weights(model: ir.Model) -> tuple[ir.Model, dict[str, ir.TensorProtocol]]:
    """Return a copy whose large weights are inputs, and their tensors by name."""
    light, taken = model.clone(), dict[str, ir.TensorProtocol]()
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= LARGE_BYTES or value.is_graph_output():
            continue
        taken[name] = tensor
        light.graph.initializers.pop(name)
        value.const_value, value.shape, value.type = None, tensor.shape, ir.TensorType(tensor.dtype)  # type: ignore[assignment]
        if value not in light.graph.inputs:
            light.graph.inputs.append(value)
    return light, taken
