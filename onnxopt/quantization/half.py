"""Models in 16-bit floats: conversion to float32 for the quantizer, and of the float parts back.

On CPUs ONNX Runtime computes most float16 layers in float32, and its quantizer ignores them.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight
from onnxopt.graph.shapes import with_types
from onnxopt.graph.weights.constant_scales import must_be_constant

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOATS = (ir.DataType.FLOAT, *_HALF)
_TYPED_BY_ATTRIBUTE = ("dtype", "output_dtype")
_LEAST_ELEMENTS = 128
"""Smallest weight that is stored back: a Cast takes some two hundred bytes in the file."""


def widened(model: ir.Model) -> tuple[ir.Model, dict[str, ir.DataType]]:
    """Return `model` in float32 only, and the former 16-bit weights by name.

    Inputs and outputs keep their types. A model without 16-bit floats is returned unchanged, and so is a model with
    sub-graphs, functions or operators with a type attribute.
    """
    if not any(v.dtype in _HALF for v in _values(model)):
        return model, {}
    typed = with_types(model)
    if typed.functions or any(_states_type(node) for node in typed.graph):
        return model, {}
    graph = typed.graph
    _widen_casts(graph)
    narrow = _widen_weights(graph)
    for value in [v for node in graph for v in node.outputs if v.dtype in _HALF and not v.is_graph_output()]:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    for value in [v for v in graph.inputs if v.dtype in _HALF]:
        uses = list(value.uses())
        cast = _cast(value, ir.DataType.FLOAT, f"{value.name}_wide")
        for use in uses:
            use.node.replace_input_with(use.idx, cast.outputs[0])
        if len(graph):
            graph.insert_before(graph[0], cast)
    for value in dict.fromkeys(v for v in graph.outputs if v.dtype in _HALF):
        _narrow_output(graph, value)
    return typed, narrow


def _widen_casts(graph: ir.Graph) -> None:
    for cast in [n for n in graph if n.op_type == "Cast"]:
        source = cast.inputs[0]
        if source is not None and _moves_floats(cast) and not cast.outputs[0].is_graph_output():
            cast.outputs[0].replace_all_uses_with(source)
            graph.remove(cast, safe=True)
        elif cast.attributes.get_int("to", 0) in map(int, _HALF):
            cast.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))


def _widen_weights(graph: ir.Graph) -> dict[str, ir.DataType]:
    """Store 16-bit weights in float32; return their former types by name."""
    narrow = dict[str, ir.DataType]()
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype in _HALF:
            narrow[name] = tensor.dtype
            set_weight(value, tensor.numpy().astype(np.float32))
    return narrow


def store_half(model: ir.Model, narrow: Mapping[str, ir.DataType]) -> None:
    """Store weights in 16 bits again if that is lossless and no kernel needs them as constants, in place."""
    graph = model.graph
    for name, dtype in narrow.items():
        value = graph.initializers.get(name)
        if value is None or value.const_value is None or value.const_value.dtype is not ir.DataType.FLOAT:
            continue
        if must_be_constant(value):
            continue
        array = value.const_value.numpy()
        half = array.astype(dtype.numpy())
        if array.size < _LEAST_ELEMENTS or not np.array_equal(half.astype(np.float32), array):
            continue
        uses = list(value.uses())
        stored = ir.Value(name=f"{name}_half")
        set_weight(stored, half)
        graph.register_initializer(stored)
        graph.initializers.pop(name)
        cast = _cast(stored, ir.DataType.FLOAT, name)
        for use in uses:
            use.node.replace_input_with(use.idx, cast.outputs[0])
        graph.insert_before(graph[0], cast)


def _values(model: ir.Model) -> Iterable[ir.Value]:
    yield from (v for v in (*model.graph.inputs, *model.graph.initializers.values()))
    yield from (v for node in model.graph for v in node.outputs)


def _states_type(node: ir.Node) -> bool:
    if node.op_type in ("Constant", "ConstantOfShape") and "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype in _HALF
    stated = (node.attributes.get_int(name, 0) for name in _TYPED_BY_ATTRIBUTE)
    graphs = (a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    return any(kind in map(int, _HALF) for kind in stated) or any(graphs)


def _moves_floats(cast: ir.Node) -> bool:
    value = cast.inputs[0]
    to = cast.attributes.get_int("to", 0)
    return value is not None and value.dtype in _FLOATS and to in {int(dtype) for dtype in _FLOATS}


def _narrow_output(graph: ir.Graph, value: ir.Value) -> None:
    producer = value.producer()
    if producer is None:
        return
    name, dtype = value.name or "", value.dtype
    assert dtype is not None
    positions = [i for i, output in enumerate(graph.outputs) if output is value]
    value.name, value.type = f"{name}_wide", ir.TensorType(ir.DataType.FLOAT)
    cast = _cast(value, dtype, name)
    cast.outputs[0].shape = value.shape
    graph.insert_after(producer, cast)
    for position in positions:
        graph.outputs[position] = cast.outputs[0]


def _cast(source: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    cast = ir.node("Cast", [source], {"to": int(to)}, name=f"{name}_cast")
    cast.outputs[0].name, cast.outputs[0].type = name, ir.TensorType(to)
    return cast
