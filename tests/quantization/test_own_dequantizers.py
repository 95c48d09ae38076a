"""Each reader of a DequantizeLinear gets its own, as the runtime would give it one."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.catalog import parse
from onnxopt.measure.runtime.session import Runtime, Session, session_and_graph
from onnxopt.model_file import to_proto
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.own_dequantizers import give_own_dequantizers, put_bias_scales_first
from onnxopt.target import target_of
from tests import builders

FLOAT = TensorProto.FLOAT


def shared(*, output: bool = False, nested: bool = False) -> onnx.ModelProto:
    """Return a graph whose activation three nodes read, one of them twice, and in addition the output or a subgraph."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        helper.make_node("Relu", ["d"], ["a"], "relu"),
        helper.make_node("Add", ["d", "d"], ["b"], "add"),
        helper.make_node("Mul", ["a", "b"], ["c"], "mul"),
    ]
    if nested:
        value = helper.make_tensor_value_info("e", FLOAT, None)
        inner = helper.make_graph([helper.make_node("Neg", ["d"], ["e"])], "inner", [], [value])
        nodes += [
            helper.make_node("If", ["yes"], ["f"], "if", then_branch=inner, else_branch=inner),
            helper.make_node("Sub", ["c", "f"], ["y"], "sub"),
        ]
    else:
        nodes.append(helper.make_node("Neg", ["c"], ["y"], "neg"))
    weights = [
        numpy_helper.from_array(np.array(value), name)
        for name, value in (("s", np.float32(0.05)), ("z", np.uint8(128)), ("yes", np.bool_(True)))
    ]
    ends = [helper.make_tensor_value_info(name, FLOAT, ["n", 4]) for name in ("x", "y", "d")]
    graph = helper.make_graph(nodes, "shared", ends[:1], ends[1 : 3 if output else 2], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def made_by_the_runtime(proto: onnx.ModelProto) -> list[str]:
    """Return the nodes that the runtime adds to a graph without optimizing it."""
    _, data = session_and_graph(proto.SerializeToString(), Runtime(optimization="none"))
    own = {node.name for node in proto.graph.node}
    return [node.name for node in onnx.load_model_from_string(data).graph.node if node.name not in own]


def answers(proto: onnx.ModelProto) -> list[bytes]:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    return [array.tobytes() for array in Session(proto.SerializeToString(), Runtime()).run({"x": x})]


def test_the_runtime_has_none_to_make() -> None:
    proto = shared()
    before = answers(proto)
    assert len(made_by_the_runtime(proto)) == 2
    assert give_own_dequantizers(proto)
    assert not made_by_the_runtime(proto)
    assert [node.op_type for node in proto.graph.node].count("DequantizeLinear") == 3
    names = [name for node in proto.graph.node for name in (node.name, *node.output)]
    assert len(names) == len(set(names))
    assert answers(proto) == before


@pytest.mark.parametrize("kind", ["output", "nested"])
def test_outputs_and_subgraphs_keep_theirs(kind: str) -> None:
    proto = shared(output=kind == "output", nested=kind == "nested")
    before = answers(proto)
    assert give_own_dequantizers(proto) == (kind == "nested")
    assert answers(proto) == before


def test_names_in_use_are_not_taken() -> None:
    proto = shared()
    proto.graph.node[2].name, proto.graph.node[4].name = "dequantize/duplicated", "d/duplicated"
    before = answers(proto)
    assert give_own_dequantizers(proto)
    names = [name for node in proto.graph.node for name in (node.name, *node.output)]
    assert len(names) == len(set(names))
    assert answers(proto) == before


def test_where_each_has_one_reader_nothing_changes() -> None:
    proto = shared()
    assert give_own_dequantizers(proto)
    kept = proto.SerializeToString(deterministic=True)
    assert not give_own_dequantizers(proto)
    assert proto.SerializeToString(deterministic=True) == kept


@pytest.mark.parametrize("name", ["residual_cnn", "gemm_mlp"])
def test_scales_of_biases_stand_first_and_the_runtime_makes_the_same_graph(name: str) -> None:
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=8))
    proto = to_proto(Pipeline(parse("quantize-static")).run(model, context).model)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    scales = {f"{name}_scale" for name, one in tensors.items() if one.data_type == TensorProto.INT32} & tensors.keys()
    assert scales
    assert not scales <= {tensor.name for tensor in proto.graph.initializer[: len(scales)]}
    _, before = session_and_graph(proto.SerializeToString(), Runtime())
    assert put_bias_scales_first(proto)
    assert {tensor.name for tensor in proto.graph.initializer} == tensors.keys()
    assert scales <= {tensor.name for tensor in proto.graph.initializer[: 2 * len(scales)]}
    _, after = session_and_graph(proto.SerializeToString(), Runtime())
    one, other = (onnx.load_model_from_string(data).graph for data in (before, after))
    assert list(map(helper.printable_node, one.node)) == list(map(helper.printable_node, other.node))
    contents = ({tensor.name: tensor.SerializeToString() for tensor in some.initializer} for some in (one, other))
    assert next(contents) == next(contents)


def test_without_integer_biases_weights_stay_in_their_order() -> None:
    proto = shared()
    before = proto.SerializeToString(deterministic=True)
    assert not put_bias_scales_first(proto)
    assert proto.SerializeToString(deterministic=True) == before
