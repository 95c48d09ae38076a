"""Equal zero points are held once, and only they."""

import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.catalog import parse
from onnxopt.model_file.order import bodies_of
from onnxopt.model_file.proto import remove_parts
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.zero_points import share_zero_points
from onnxopt.target import target_of
from tests import builders

U8, I8 = TensorProto.UINT8, TensorProto.INT8


def graph_of(points: dict[str, tuple[int, list[int]]], inner: onnx.GraphProto | None = None) -> onnx.ModelProto:
    """Return a graph that reads each zero point in a node of its own."""
    tensors = [helper.make_tensor(name, kind, [len(of)], of) for name, (kind, of) in points.items()]
    nodes = [helper.make_node("DequantizeLinear", ["x", "s", name], [f"of_{name}"]) for name in points]
    if inner is not None:
        nodes.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    return helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))


def read(model: onnx.ModelProto) -> list[str]:
    return [node.input[2] for node in model.graph.node if node.op_type == "DequantizeLinear"]


def test_readers_of_equal_zero_points_read_the_first() -> None:
    model = graph_of(
        {
            "a_zero_point": (U8, [3]),
            "b_zero_point": (I8, [3]),
            "c_zero_point": (U8, [3, 3]),
            "d_zero_point": (U8, [3]),
            "e_zero_point": (U8, [4]),
            "shift": (U8, [3]),
        }
    )
    share_zero_points(model, list(bodies_of(model)))
    assert read(model) == ["a_zero_point", "b_zero_point", "c_zero_point", "a_zero_point", "e_zero_point", "shift"]
    left = [tensor.name for tensor in model.graph.initializer]
    assert left == ["a_zero_point", "b_zero_point", "c_zero_point", "e_zero_point", "shift"]


@pytest.mark.parametrize("own", [False, True])
def test_subgraphs_that_read_it_follow_unless_the_name_is_their_own(own: bool) -> None:
    tensors = [helper.make_tensor("b_zero_point", U8, [1], [9])] if own else []
    node = helper.make_node("DequantizeLinear", ["x", "s", "b_zero_point"], ["z"])
    inner = helper.make_graph([node], "inner", [], [], tensors)
    model = graph_of({"a_zero_point": (U8, [3]), "b_zero_point": (U8, [3])}, inner)
    share_zero_points(model, list(bodies_of(model)))
    inside = model.graph.node[-1].attribute[0].g.node[0].input[2]
    assert inside == ("b_zero_point" if own else "a_zero_point")
    assert read(model) == ["a_zero_point", inside]


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-static{form=qoperator}", "quantize-dynamic"])
def test_no_quantized_file_holds_a_zero_point_twice(spec: str) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    made = Pipeline(parse(spec)).run(model, Context(target_of("x86-vnni"), builders.samples_of(model))).model
    points = [v.const_value for name, v in made.graph.initializers.items() if name.endswith("_zero_point")]
    contents = [(one.dtype, tuple(one.shape.numpy()), one.tobytes()) for one in points if one is not None]
    assert len(set(contents)) == len(contents)


def test_removed_parts_are_those_given_and_the_others_keep_their_order() -> None:
    graph = graph_of({name: (U8, [0]) for name in "abcdef"}).graph
    held = list(graph.node)
    remove_parts(graph.node, [held[4], held[0], held[1]])
    assert [node.input[2] for node in graph.node] == ["c", "d", "f"]
    assert graph.node[0] is held[2]
