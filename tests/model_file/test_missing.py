"""Values that nothing gives, in graphs inside graphs."""

import onnx
from onnx import helper

from onnxopt.model_file.proto import missing_values


def branch(*nodes: tuple[str, str], **inner: onnx.GraphProto) -> onnx.GraphProto:
    """Return a graph of Identity nodes, each from a value to another, and then of an If for each inner graph."""
    made = [helper.make_node("Identity", [read], [given]) for read, given in nodes]
    made += [helper.make_node("If", ["c"], [name], then_branch=one, else_branch=one) for name, one in inner.items()]
    return helper.make_graph(made, "g", [helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])], [])


def test_a_graph_reads_those_around_it_but_not_those_beside_it() -> None:
    graph = branch(("c", "a"), one=branch(("a", "inside")), two=branch(("inside", "b"), ("one", "d")))
    assert list(missing_values(graph)) == ["inside", "inside"]  # in both branches of the second
    shadowed = branch(("c", "a"), one=branch(("c", "a")), two=branch(("a", "b")))
    assert not list(missing_values(shadowed))


class Around(set[str]):
    """Names that must not be copied: with thousands of graphs inside a large one that takes minutes."""

    def __or__(self, other: object) -> "Around":
        raise AssertionError("the names are copied")


def test_the_names_around_are_not_copied_for_each_graph_inside() -> None:
    known = Around({"given"})
    graph = branch(("given", "a"), one=branch(("a", "inside")), two=branch(("nowhere", "b")))
    assert list(missing_values(graph, known)) == ["nowhere", "nowhere"]
    assert known == {"given"}
