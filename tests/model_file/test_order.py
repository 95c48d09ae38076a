"""Nodes are put behind what they read, and stay where they are otherwise."""

import onnx
from onnx import helper

from onnxopt.model_file import from_runtime, operators_of, to_proto
from onnxopt.model_file.order import sort_nodes
from tests import builders


def test_nodes_are_put_behind_what_their_subgraphs_read() -> None:
    proto = to_proto(builders.BUILDERS["nested_capture"]())
    names = [node.name for node in proto.graph.node]
    whole = onnx.GraphProto(node=reversed(proto.graph.node))
    assert sort_nodes(whole) is None
    position = {node.name: i for i, node in enumerate(whole.node)}
    assert sorted(position) == sorted(names)
    assert position["Sigmoid_2"] < position[names[-2]] < position[names[-1]]
    again = onnx.GraphProto(node=proto.graph.node)
    assert sort_nodes(again) is None
    assert [node.name for node in again.node] == names


def test_a_circle_is_named_by_one_of_its_nodes_and_nothing_is_changed() -> None:
    nodes = [
        helper.make_node("Relu", ["b"], ["after"], name="after"),
        helper.make_node("Relu", ["b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="other"),
    ]
    graph = onnx.GraphProto(node=nodes)
    circle = sort_nodes(graph)
    assert circle is not None
    assert circle.name in ("one", "other")
    assert [node.name for node in graph.node] == ["after", "one", "other"]


def test_a_graph_that_the_runtime_wrote_in_no_order_is_read_in_order() -> None:
    proto = to_proto(builders.BUILDERS["gemm_mlp"]())
    names = [node.name for node in proto.graph.node]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert [node.name for node in from_runtime(proto.SerializeToString()).graph] == names
    assert [one.name for one in operators_of(proto.SerializeToString()).main] == names


def test_operators_are_those_of_the_graph() -> None:
    for make in builders.BUILDERS.values():
        data = to_proto(make()).SerializeToString()
        graph, found = from_runtime(data).graph, operators_of(data)
        expected = [
            (n.name, n.op_type, *(tuple((v.name or "") if v else "" for v in some) for some in (n.inputs, n.outputs)))
            for n in graph.all_nodes()
        ]
        assert sorted(map(repr, expected)) == sorted(repr(tuple(one)) for one in (*found.main, *found.inner))
        assert [one.name for one in found.main] == [node.name for node in graph]
        tensors = [v for v in (*graph.inputs, *graph.initializers.values()) if v.dtype is not None]
        assert {value.name: int(value.dtype) for value in tensors if value.dtype is not None} == found.kinds
