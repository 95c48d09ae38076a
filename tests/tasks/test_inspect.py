"""What `inspect` says of the cost of a model."""

import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.tasks.inspect import inspect_model


@pytest.fixture
def save(tmp_path):
    def make(shapes):
        """Products of `x` with itself, one for each shape; None for one that nobody can infer."""
        nodes, inputs, outputs = [], [], []
        for i, shape in enumerate(shapes):
            nodes.append(helper.make_node("MatMul", [f"x{i}", f"x{i}"], [f"y{i}"]))
            inputs.append(helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape))
            outputs.append(helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None))
        graph = helper.make_graph(nodes, "products", inputs, outputs)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx"
        )
        return dict(inspect_model(tmp_path / "m.onnx", {}).blocks[0].pairs)["MACs"]

    return make


def test_macs_are_summed(save):
    assert save([(4, 4), (2, 2)]).startswith("72 at ")


def test_unknown_macs_are_no_zero(save):
    assert save([None]).startswith("unknown at ")
    assert "1 node of unknown shape" in save([None])


def test_a_sum_of_some_is_the_least_it_can_be(save):
    assert save([(4, 4), None]).startswith("at least 64 at ")
