"""Graphs without the numbers of their large weights: all that the checker and type inference need."""

from collections.abc import Mapping

import onnx_ir as ir

LARGE_BYTES = 4096
"""Constants above this are no shapes: inference does not need their values."""


def without_large_weights(
    model: ir.Model, above_bytes: int | None = None
) -> tuple[ir.Model, dict[str, ir.TensorProtocol]]:
    """Return a copy whose weights above a size, `LARGE_BYTES` by default, are inputs, and their tensors by name."""
    limit = LARGE_BYTES if above_bytes is None else above_bytes
    light, taken = model.clone(), dict[str, ir.TensorProtocol]()
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or value.is_graph_output():
            continue
        if tensor.nbytes <= limit and not isinstance(tensor, ir.LazyTensor):
            continue  # a deferred weight of any size would be computed
        taken[name] = tensor
        light.graph.initializers.pop(name)
        value.const_value, value.shape, value.type = None, tensor.shape, ir.TensorType(tensor.dtype)  # type: ignore[assignment]
        if value not in light.graph.inputs:
            light.graph.inputs.append(value)
    return light, taken


def give_weights_back(typed: ir.Model, model: ir.Model, weights: Mapping[str, ir.TensorProtocol]) -> None:
    """Make weights of those inputs again, in the order that they had in `model`, in place.

    What nothing reads any more is left out.
    """
    known = {value.name: value for value in typed.graph.inputs}
    for name, tensor in weights.items():
        if name in known:
            known[name].const_value = tensor
            typed.graph.initializers[name] = known[name]
    own = {value.name for value in model.graph.inputs}
    kept = [value for value in typed.graph.inputs if value.name in own or value.name not in weights]
    typed.graph.inputs.clear()
    typed.graph.inputs.extend(kept)
    for name in (name for name in model.graph.initializers if name in typed.graph.initializers):
        typed.graph.initializers[name] = typed.graph.initializers.pop(name)
