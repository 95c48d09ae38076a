"""Two decoders as one file, as Optimum merges them: an If whose branches share the weights of the graph around them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

SWITCH = "use_cache_branch"


def write_merged(first: Path, later: Path, out: Path) -> None:
    """Write the decoder of the first tokens and that of later ones as one file.

    The branches keep their names, which are also those of the outputs around them. Outputs that the decoder of later
    tokens lacks (keys and values of the encoder) are empty in its branch: programs keep those of the first step.
    """
    start, step = onnx.load(first), onnx.load(later)
    outer = dict[bytes, TensorProto]()
    missing = [_empty(value) for value in start.graph.output if value.name not in _names(step.graph.output)]
    branches = [
        _branch(step, [value.name for value in start.graph.output], missing, outer),
        _branch(start, [value.name for value in start.graph.output], (), outer),
    ]
    node = helper.make_node(
        "If", [SWITCH], _names(start.graph.output), then_branch=branches[0], else_branch=branches[1]
    )
    inputs = {value.name: value for one in (start, step) for value in one.graph.input}
    inputs[SWITCH] = helper.make_tensor_value_info(SWITCH, TensorProto.BOOL, [1])
    graph = helper.make_graph([node], "merged", list(inputs.values()), list(start.graph.output), list(outer.values()))
    made = helper.make_model(graph, ir_version=start.ir_version, opset_imports=start.opset_import)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, out)


def _names(values: Sequence[ValueInfoProto]) -> list[str]:
    return [value.name for value in values]


def _empty(value: ValueInfoProto) -> NodeProto:
    """Return a node that makes a value without elements: its first free axis is 0, further ones are 1."""
    free = [dim for dim in value.type.tensor_type.shape.dim if dim.dim_param]
    dims = [dim.dim_value if not dim.dim_param else int(dim is not free[0]) for dim in value.type.tensor_type.shape.dim]
    tensor = helper.make_tensor(f"{value.name}_empty", value.type.tensor_type.elem_type, dims, [])
    return helper.make_node("Constant", [], [value.name], name=f"{value.name}_empty", value=tensor)


def _branch(
    model: ModelProto, outputs: Sequence[str], added: Sequence[NodeProto], outer: dict[bytes, TensorProto]
) -> GraphProto:
    """Return a model as a branch without inputs; each of its weights goes into `outer` once."""
    names = dict[str, str]()
    for tensor in model.graph.initializer:
        kept = TensorProto()
        kept.CopyFrom(tensor)
        kept.name = ""
        key = kept.SerializeToString()
        kept.name = f"{tensor.name}_merged_{len(outer)}"
        names[tensor.name] = outer.setdefault(key, kept).name
    nodes = [*model.graph.node, *added]
    _rename(nodes, names)
    known = {value.name: value for value in model.graph.output}
    kinds = {node.output[0]: node.attribute[0].t for node in added}
    ends = [
        known.get(name) or helper.make_tensor_value_info(name, kinds[name].data_type, kinds[name].dims)
        for name in outputs
    ]
    return helper.make_graph(nodes, f"{model.graph.name}_branch", [], ends)


def _rename(nodes: Sequence[NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
