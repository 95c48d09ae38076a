"""The bridge to ONNX Runtime's conversion of a float32 graph to one that computes in float16."""

from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

from onnxopt.errors import NativeError
from onnxopt.graph.shapes import with_types
from onnxopt.model_file import from_proto, opset_of, to_proto
from onnxopt.model_file.order import sort_nodes
from onnxopt.quantization.ort_bridge import quantizer_errors

_PAIRS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_HALF_SCALES = 19
"""The first opset in which scales may be float16."""


def stays_float32(model: ir.Model) -> frozenset[str]:
    """Return the operators that the conversion leaves in float32, between casts."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    return frozenset((*DEFAULT_OP_BLOCK_LIST, *(_PAIRS if opset_of(model) < _HALF_SCALES else ())))


def _with_made_ends(model: ir.Model) -> ir.Model:
    """Have a node make each output of a body; the conversion leaves a weight or an outer value there in float32."""
    for number, body in enumerate(model.graph.subgraphs()):
        for place, value in enumerate(body.outputs):
            node = value.producer()
            if node is None or node.graph is not body:
                copy = ir.node("Identity", [value], name=f"end_{number}_{place}")
                copy.outputs[0].name = f"end_{number}_{place}"
                copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
                body.append(copy)
                body.outputs[place] = copy.outputs[0]
    return model


def _take_names_apart(graph: onnx.GraphProto) -> None:
    """Give each value inside control flow a name that no other value has; the conversion takes equal names for one."""
    taken = set(_made_in(graph))
    for body in _bodies(graph):
        _rename(body, {}, taken)


def _rename(body: onnx.GraphProto, outer: Mapping[str, str], taken: set[str]) -> None:
    names = {**outer, **{name: _free(name, taken) for name in _made_in(body)}}
    for value in (*body.input, *body.output, *body.value_info):
        value.name = names.get(value.name, value.name)
    for tensor in body.initializer:
        tensor.name = names[tensor.name]
    for node in body.node:
        for some in (node.input, node.output):
            some[:] = [names.get(name, name) for name in some]
    for inner in _bodies(body):
        _rename(inner, names, taken)


def _made_in(graph: onnx.GraphProto) -> list[str]:
    """Return the names of inputs, weights and results of a graph."""
    given = [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)]
    return list(dict.fromkeys((*given, *(name for node in graph.node for name in node.output if name))))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.g,) if attribute.HasField("g") else attribute.graphs


def in_float16(model: ir.Model, exclude: Sequence[str]) -> ir.Model:
    """Return a copy of `model` that computes in float16, with its inputs and outputs in float32.

    Finite numbers beyond the range of float16, such as those of masks, become its largest ones.

    Args:
        model: every node has a name; it fits a protobuf.
        exclude: names of nodes that stay in float32.

    Raises:
        NativeError: ONX402 the conversion failed.
        ModelError: ONX305 types in the model contradict each other.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = to_proto(_with_made_ends(with_types(model)))
    _take_names_apart(proto.graph)
    # The runtime runs a graph that gives a value twice, but its conversion makes two casts of one name.
    outputs = [value.name for value in proto.graph.output]
    once = list({value.name: value for value in proto.graph.output}.values())
    del proto.graph.output[:]
    proto.graph.output.extend(once)
    with quantizer_errors():
        made = convert_float_to_float16(
            proto,
            keep_io_types=True,
            disable_shape_infer=True,
            op_block_list=sorted(stays_float32(model)),
            node_block_list=list(exclude),
        )
    if sort_nodes(made.graph) is not None:
        raise NativeError("ONX402", "ONNX Runtime's conversion to float16 failed", why="its graph has a circle")
    converted = from_proto(made)
    values = {value.name: value for value in converted.graph.outputs}
    converted.graph.outputs.clear()
    converted.graph.outputs.extend(values[name] for name in outputs)
    return converted
