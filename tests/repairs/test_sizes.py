"""What a file stores and need not."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.edit import set_weight
from onnxopt.model_file import size_bytes
from onnxopt.repairs.float_weights import FloatCopies, QuantizedAtLoading
from onnxopt.repairs.repeated import RepeatedWeights
from tests.builders import F
from tests.repairs.quantized import X86, QNet, mended


def _quantized_at_loading(axis: int | None = 0, twice: bool = False, dtype: type = np.int8) -> ir.Model:
    net = QNet(13)
    floats = net.const((net.rng.standard_normal((16, 8, 3, 3)) * 3).astype(np.float32), "w")
    scale = net.const(net.rng.uniform(0.02, 0.04, 16 if axis == 0 else None) + np.zeros(16 if axis == 0 else ()))
    net.weights[-1].CopyFrom(_float32(net.weights[-1]))
    zero = net.zero(3, dtype, 16 if axis == 0 else 0)
    attrs = {} if axis is None else {"axis": axis}
    weight = net.node(
        "DequantizeLinear", net.node("QuantizeLinear", floats, scale, zero, **attrs), scale, zero, **attrs
    )
    y = net.node("Conv", "x", weight, pads=[1] * 4)
    if twice:
        y = net.node("Add", y, net.node("Conv", "x", floats, pads=[1] * 4))
    net.node("Identity", y, out="y")
    return net.model([("x", F, ["batch", 8, 8, 8])], [("y", F, None)])


def _float32(tensor):
    from onnx import numpy_helper

    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_weights_that_a_node_quantizes_are_stored_as_integers(axis: int | None, dtype: type) -> None:
    model = _quantized_at_loading(axis, dtype=dtype)
    result, found = mended(QuantizedAtLoading(), model)
    assert found.where == ("w",)
    assert "w" not in result.graph.initializers
    assert size_bytes(result) < 0.5 * size_bytes(model)


def test_floats_that_others_read_are_kept() -> None:
    found = QuantizedAtLoading().find(_quantized_at_loading(twice=True), X86)
    assert not found.sites
    assert found.left[0].reason == "its floats are read by others too"


def _with_copy(equal: bool = True) -> ir.Model:
    net = QNet(14)
    q = net.integers(64, 32)
    scale = net.const(np.float32(0.015))
    weight = net.node("DequantizeLinear", net.const(q, "q"), scale, net.zero(0, np.int8))
    floats = q.astype(np.float32) * np.float32(0.015) + np.float32(0 if equal else 0.001)
    rows = net.node("Gather", net.const(floats, "table"), "x", axis=0)
    net.node("MatMul", rows, net.node("Transpose", weight, perm=[1, 0]), out="y")
    return net.model([("x", 7, ["batch"])], [("y", F, None)])


def test_a_float_copy_is_computed_from_the_integers() -> None:
    model = _with_copy()
    result, found = mended(FloatCopies(), model)
    assert found.where == ("table",)
    assert "table" not in result.graph.initializers
    assert size_bytes(result) < 0.5 * size_bytes(model)


def test_floats_that_are_no_copy_stay() -> None:
    assert not FloatCopies().find(_with_copy(equal=False), X86).sites


def test_equal_tensors_are_stored_once_and_unread_ones_not_at_all() -> None:
    net = QNet(15)
    array = net.rng.standard_normal((32, 32)).astype(np.float32)
    x = net.node("MatMul", net.node("MatMul", "x", net.const(array, "a")), net.const(array, "b"))
    net.const(array + 1, "unread")
    net.const(array.view(np.int32), "bits")
    net.node("MatMul", x, net.node("Cast", "bits", to=F), out="y")
    model = net.model([("x", F, ["batch", 32])], [("y", F, None)])
    result, found = mended(RepeatedWeights(), model)
    assert set(found.where) == {"b", "unread"}
    assert set(result.graph.initializers) == {"a", "bits"}


def test_equal_tables_of_texts_are_stored_once() -> None:
    texts, values = ir.Shape([2000]), []
    for name, word in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        value = ir.Value(name=name, const_value=ir.StringTensor([b"word"] * 1999 + [word], shape=texts))
        values.append(value)
    nodes = [ir.node("Shape", [value]) for value in values]
    graph = ir.Graph([], [node.outputs[0] for node in nodes], nodes=nodes, initializers=values, opset_imports={"": 17})
    assert RepeatedWeights().find(ir.Model(graph, ir_version=10), X86).sites == ("b",)


def test_small_tensors_and_those_that_callers_give_are_left_alone() -> None:
    net = QNet(16)
    array = net.rng.standard_normal((8, 8)).astype(np.float32)
    net.node("MatMul", net.node("MatMul", "x", net.const(array, "a")), net.const(array, "b"), out="y")
    assert not RepeatedWeights().find(net.model([("x", F, ["batch", 8])], [("y", F, None)]), X86).sites


def test_a_repair_leaves_out_only_what_it_made_superfluous() -> None:
    model = _quantized_at_loading()
    spare = ir.Value(name="spare")
    set_weight(spare, np.zeros(1024, np.float32))
    model.graph.register_initializer(spare)
    result, _ = mended(QuantizedAtLoading(), model)
    assert "spare" in result.graph.initializers
    assert "w" not in result.graph.initializers
