"""Graphs without the numbers of their large weights: all that the checker and type inference need."""

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from onnxopt.model_file.proto import bytes_of, to_proto, weights

LARGE_BYTES = 4096
"""Constants above this are no shapes: inference does not need their values."""


def without_large_weights(
    model: ir.Model, above_bytes: int | None = None
) -> tuple[ir.Model, dict[str, ir.TensorProtocol]]:
    """Return a copy whose weights above a size, `LARGE_BYTES` by default, are inputs, and their tensors by name."""
    light, taken = model.clone(), _large(model, above_bytes)
    for name, tensor in taken.items():
        value = light.graph.initializers.pop(name)
        value.const_value, value.shape, value.type = None, tensor.shape, ir.TensorType(tensor.dtype)  # type: ignore[assignment]
        if value not in light.graph.inputs:
            light.graph.inputs.append(value)
    return light, taken


def light_proto(
    model: ir.Model, above_bytes: int | None = None
) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """Return the protobuf of `without_large_weights`, without a copy of the graph, and the tensors."""
    taken = _large(model, above_bytes)
    if not taken:
        return to_proto(model), taken
    if any(isinstance(tensor, ir.ExternalTensor) and tensor.name not in taken for tensor in weights(model)):
        return to_proto(without_large_weights(model, above_bytes)[0]), taken  # small ones are read into a copy
    graph = model.graph
    stated = {value.name for value in graph.inputs}
    small = [value for name, value in graph.initializers.items() if name not in taken]
    placeholders = [_placeholder(graph.initializers[name], tensor) for name, tensor in taken.items()]
    view = ir.GraphView(
        [*graph.inputs, *(value for value in placeholders if value.name not in stated)],
        graph.outputs,
        nodes=graph,
        initializers=small,
        doc_string=graph.doc_string,
        opset_imports=graph.opset_imports,
        name=graph.name,
        metadata_props=graph.metadata_props,
    )
    light = ir.Model(
        view,  # type: ignore[arg-type]  # as its documentation shows
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=list(model.functions.values()),
        metadata_props=model.metadata_props,
    )
    return to_proto(light), taken


def _large(model: ir.Model, above_bytes: int | None) -> dict[str, ir.TensorProtocol]:
    limit = LARGE_BYTES if above_bytes is None else above_bytes
    found = ((name, value) for name, value in model.graph.initializers.items() if not value.is_graph_output())
    # A deferred weight of any size would be computed.
    return {
        name: value.const_value
        for name, value in found
        if value.const_value is not None
        and (isinstance(value.const_value, ir.LazyTensor) or bytes_of(value.const_value) > limit)
    }


def _placeholder(value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
    made = ir.Value(
        name=value.name,
        shape=ir.Shape(tensor.shape.numpy()),
        type=ir.TensorType(tensor.dtype),
        doc_string=value.doc_string,
        metadata_props=dict(value.metadata_props),
    )
    made.meta.update(value.meta)
    return made


def give_weights_back(typed: ir.Model, model: ir.Model, weights: Mapping[str, ir.TensorProtocol]) -> None:
    """Make weights of those inputs again, in the order that they had in `model`, in place.

    Values without readers are left out.
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
