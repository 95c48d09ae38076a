"""The edits that are easy to get wrong."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.errors import UsageError
from onnxopt.graph.edit import constant_of, editable, freeze_weights, lift_constants, name_nodes, set_weight, tensor_in
from onnxopt.model_file import signature_of, to_bytes
from tests import builders


@pytest.mark.parametrize("array", [np.float32(3), np.zeros((0, 4), np.int8), np.ones((2, 3), np.float64)], ids=str)
def test_set_weight_changes_tensor_shape_and_type_together(array: np.ndarray) -> None:
    value = builders.BUILDERS["gemm_mlp"]().graph.initializers["w_1"]
    set_weight(value, np.asarray(array))
    assert value.const_value is not None
    assert value.shape == ir.Shape(np.shape(array))
    assert value.dtype == value.const_value.dtype == ir.DataType.from_numpy(np.asarray(array).dtype)
    np.testing.assert_array_equal(value.const_value.numpy(), array)


def test_a_weight_that_was_set_is_a_frozen_copy() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    other, array = model.clone(), np.ones((16, 8), np.float32)
    untouched = to_bytes(other)
    set_weight(model.graph.initializers["w_1"], array)
    array[:] = 5
    stored = model.graph.initializers["w_1"].const_value
    assert stored is not None
    assert (stored.numpy() == 1).all()
    assert not stored.numpy().flags.writeable
    assert to_bytes(other) == untouched


def test_freeze_weights_keeps_the_outputs() -> None:
    model = builders.listed_weights(8)
    feeds, before = builders.feeds_of(model), signature_of(model)
    expected = builders.run(model, feeds)[0]
    assert freeze_weights(model) == len(model.graph.initializers)
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert model.ir_version == 4
    assert signature_of(model) == before
    np.testing.assert_array_equal(builders.run(model, feeds)[0], expected)


def test_freeze_weights_finds_nothing_in_a_new_model() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    before = to_bytes(model)
    assert freeze_weights(model) == 0
    assert to_bytes(model) == before


def test_lift_constants_makes_initializers() -> None:
    model = builders.BUILDERS["constant_nodes"]()
    feeds = builders.feeds_of(model)
    expected = builders.run(model, feeds)[0]
    lift_constants(model)
    lifted = [v.const_value for v in model.graph.initializers.values()]
    assert sorted(tuple(t.shape.numpy()) for t in lifted if t is not None) == [(4,), (4, 8), (8,), (8, 8)]
    np.testing.assert_array_equal(builders.run(model, feeds)[0], expected)


NAMES = st.lists(st.sampled_from(["", "Relu_0", "Relu_1", "Relu_2", "Relu_1_", "layer", "layer_3"]), max_size=8)


@given(NAMES)
def test_names_become_unique_and_the_users_own_stay(names: list[str]) -> None:
    value = ir.Value(name="x")
    nodes = []
    for name in names:
        nodes.append(ir.node("Relu", [value], name=name))
        value = nodes[-1].outputs[0]
    model = ir.Model(ir.Graph([], [], nodes=nodes, opset_imports={"": 17}), ir_version=8)
    # The graph itself may name nodes on construction; what counts is what it is given to name_nodes with.
    for node, name in zip(nodes, names, strict=True):
        node.name = name
    named = name_nodes(model)
    after = [node.name for node in model.graph]
    assert all(after)
    assert len(set(after)) == len(after)
    assert named == sum(old != new for old, new in zip(names, after, strict=True))
    for name in set(names) - {""}:
        assert after[names.index(name)] == name
    assert name_nodes(model) == 0


def test_reading_a_constant_changes_no_model_that_shares_it() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) {\n'
    model = ir.from_onnx_text(text + "k = Constant <value = float {2.0}> ()\n y = Mul(x, k)\n}")
    before = to_bytes(model)
    clone = model.clone()
    tensor = constant_of(clone.graph[1].inputs[1])
    assert tensor is not None
    assert tensor.numpy() == 2.0
    assert constant_of(clone.graph[1].inputs[0]) is None
    assert to_bytes(model) == before


def test_a_value_without_a_tensor_is_named_as_a_mistake_of_the_caller() -> None:
    value = ir.Value(name="x")
    with pytest.raises(ValueError, match="x stores no tensor"):
        tensor_in(value)
    with pytest.raises(ValueError, match="there is no value"):
        tensor_in(None)
    set_weight(value, np.ones(3, np.float32))
    assert tensor_in(value) is value.const_value


def test_an_editable_copy_has_names_and_weights_of_its_own_and_the_model_is_as_before() -> None:
    model = builders.listed_weights(8)
    next(iter(model.graph)).name = ""
    before = to_bytes(model)
    copy = editable(model)
    first = next(iter(copy.graph))
    assert first.name
    assert [value.name for value in copy.graph.inputs] == ["x"]
    assert editable(model, [first.name]).graph is not copy.graph
    with pytest.raises(UsageError, match="ONX102"):
        editable(model, ["no such node"])
    assert to_bytes(model) == before
