"""Each reader of a DequantizeLinear gets its own, as the runtime would give it one."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.measure.runtime.session import Runtime, Session, session_and_graph
from onnxopt.quantization.own_dequantizers import give_own_dequantizers

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
