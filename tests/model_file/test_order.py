"""Nodes are put behind what they read, and stay where they are otherwise."""

import onnx
from onnx import helper

from onnxopt.model_file import from_runtime, to_proto
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
