"""Constants are computed once only where that does not blow the file up, and growth is said."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt import model_file
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Applied, Context, Pipeline
from onnxopt.target import target_of
from tests import builders


def counted(numbers: int) -> onnx.ModelProto:
    """A file of 300 bytes whose constant, computed, takes 4 bytes a number."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    bounds = [numpy_helper.from_array(np.float32(v), n) for n, v in (("a", 0), ("b", numbers), ("d", 1))]
    axis = numpy_helper.from_array(np.array([0]), "axis")
    nodes = [
        helper.make_node("Range", ["a", "b", "d"], ["r"]),
        helper.make_node("Sin", ["r"], ["t"]),
        # What is read of it depends on the input.
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Concat", ["t", "t"], ["tt"], axis=0),
        helper.make_node("Slice", ["tt", "axis", "n", "axis"], ["s"]),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [*bounds, axis])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def simplified(proto: onnx.ModelProto) -> Applied:
    return Simplify().apply(model_file.as_graph(proto), Context(target_of("auto")))


@pytest.mark.parametrize(
    ("count", "why"), [(1_040_000, "would grow by 8.32 MB"), (3_000_000, "one of them has 3000000 numbers")]
)
def test_a_constant_that_would_blow_the_file_up_stays_computed(count: int, why: str) -> None:
    applied = simplified(counted(count))

    assert model_file.size_of(applied.model) < 10_000
    assert any(why in skip.reason for skip in applied.skipped)
    x = np.ones(5, np.float32)
    before, after = (
        ort.InferenceSession(data).run(None, {"x": x})[0]
        for data in (counted(count).SerializeToString(), model_file.to_bytes(applied.model))
    )
    np.testing.assert_array_equal(before, after)


def test_a_small_constant_is_computed_once_and_its_growth_is_said() -> None:
    applied = simplified(counted(2_000))

    assert "Range" not in {node.op_type for node in applied.model.graph}
    assert any("folded constants add 16.0 kB" in edit.action for edit in applied.edits)


def repeated(rows: int, times: int) -> onnx.ModelProto:
    """A network with a weight that is repeated before it is read."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows * times])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])
    weight = numpy_helper.from_array(np.ones((rows, 64), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Concat", ["w"] * times, ["ww"], axis=0),
        helper.make_node("MatMul", ["x", "ww"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_growth_is_judged_by_the_weights_of_the_model() -> None:
    applied = simplified(repeated(256, 2))  # 64 kB become 128

    assert "Concat" in {node.op_type for node in applied.model.graph}
    assert any("would grow by 0.07 MB" in skip.reason for skip in applied.skipped)
    assert model_file.size_of(applied.model) < len(repeated(256, 2).SerializeToString()) + 1000


def test_a_constant_that_replaces_a_node_of_its_size_is_no_growth() -> None:
    applied = simplified(repeated(256, 1))

    assert [node.op_type for node in applied.model.graph] == ["MatMul"]
    assert not applied.skipped


def test_a_weight_that_two_convolutions_share_is_not_copied_to_fold_their_batch_norms() -> None:
    net = builders.Net(1)
    shared = net.weight(64, 64, 3, 3)
    x = net.conv("x", 3, 64)
    for _ in range(2):
        x = net.node("Relu", net.bn(net.node("Conv", x, shared, pads=[1] * 4, kernel_shape=[3, 3]), 64))
    net.pool_fc(x, 64, 4)
    proto = net.proto([builders.IMAGE], [builders.CLASSES])

    applied = simplified(proto)

    assert model_file.size_of(applied.model) < 1.05 * len(proto.SerializeToString())


@pytest.mark.parametrize("opset", [9, 12])
def test_weights_can_be_added_to_a_file_of_ir_version_3(opset: int) -> None:
    proto = counted(1000) if opset >= 11 else _plain()
    proto.ir_version = 3
    proto.opset_import[0].version = opset

    made = Pipeline((Simplify(),)).run(model_file.as_graph(proto), Context(target_of("auto")))

    onnx.checker.check_model(model_file.to_proto(made.model))
    assert made.steps[0].edits


def _plain() -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy")
    one = numpy_helper.from_array(np.ones(4, np.float32), "one")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=one),
        helper.make_node("Neg", ["c"], ["m"]),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    unused = helper.make_tensor_value_info("u", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "g", [x, unused], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=3)
