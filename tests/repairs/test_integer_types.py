"""int8 and uint8: the same numbers, the type that the processor's kernels take."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.repairs.integer_types import ActivationType, WeightType
from onnxopt.repairs.integer_values import integers_of
from onnxopt.repairs.shifted import shifted
from onnxopt.target import detect
from tests import builders
from tests.builders import F
from tests.repairs.quantized import ARM, AVX2, X86, QNet, mended, qdq_cnn

I8, U8 = TensorProto.INT8, TensorProto.UINT8


def _zero_types(model: ir.Model) -> set[str]:
    nodes = [n for n in model.graph if n.op_type == "QuantizeLinear"]
    return {n.inputs[2].const_value.dtype.name for n in nodes}


def _inside(*nodes: tuple, dtype: type = np.int8, outputs: int = 1) -> ir.Model:
    """Return a model of integers: quantized, through `nodes`, dequantized."""
    net = QNet(7)
    scale, zero = net.const(np.float32(0.05)), net.zero(3, dtype)
    current = net.node("QuantizeLinear", "x", scale, zero, name="start")
    for op, inputs, attrs in nodes:
        words = {".": current, "s": scale, "z": zero}
        read = [words[i] if isinstance(i, str) else net.const(i) for i in inputs]
        current = net.node(op, *read, **attrs)
    net.node("DequantizeLinear", current, scale, zero, out="y")
    return net.model([("x", F, ["batch", 4, 8, 8])], [("y", F, None)], domains=[("com.microsoft", 1)])


def test_shifted_numbers_are_128_away() -> None:
    for dtype, other, by in ((np.int8, np.uint8, 128), (np.uint8, np.int8, -128)):
        info = np.iinfo(dtype)
        array = np.arange(info.min, info.max + 1).astype(dtype).reshape(16, 16)
        moved = shifted(array)
        assert moved.dtype == other
        np.testing.assert_array_equal(moved.astype(int), array.astype(int) + by)
    assert shifted(np.array(-128, np.int8)).shape == ()


@pytest.mark.parametrize("zero", [-128, -7, 0, 127])
@pytest.mark.parametrize("branch", [False, True])
def test_signed_activations_become_unsigned_on_x86_and_the_outputs_stay_equal(zero: int, branch: bool) -> None:
    model = qdq_cnn(zero=zero, branch=branch)
    result, found = mended(ActivationType(), model)
    assert len(found.sites) == len([n for n in model.graph if n.op_type == "QuantizeLinear"])
    assert _zero_types(model) == {"INT8"}
    assert _zero_types(result) == {"UINT8"}
    assert result.graph.initializers["w1"].const_value.dtype is ir.DataType.INT8


@pytest.mark.skipif(detect().activation_type != "uint8", reason="these kernels are those of x86")
def test_the_runtime_then_computes_every_convolution_on_integers() -> None:
    model = qdq_cnn(zero=-128, branch=True)
    before, after = (
        Counter(n.op_type for n in optimized_model(m, Runtime()).graph)
        for m in (model, mended(ActivationType(), model)[0])
    )
    assert before["QLinearConv"] < 2
    assert after["QLinearConv"] == 2


def test_unsigned_activations_become_signed_on_arm_with_their_weights() -> None:
    model = qdq_cnn(np.uint8, np.uint8, zero=131)
    result, _ = mended(ActivationType(), model, ARM)
    assert _zero_types(result) == {"INT8"}
    assert {result.graph.initializers[n].const_value.dtype for n in ("w1", "w2")} == {ir.DataType.INT8}
    back, _ = mended(ActivationType(), result, X86)
    assert _zero_types(back) == {"UINT8"}


def test_what_has_the_processors_type_is_no_fault() -> None:
    assert not ActivationType().find(qdq_cnn(np.uint8), X86).sites
    assert not ActivationType().find(qdq_cnn(np.int8), ARM).sites
    assert not WeightType().find(qdq_cnn(np.uint8), X86).sites


def test_unsigned_weights_become_signed() -> None:
    result, found = mended(WeightType(), qdq_cnn(np.uint8, np.uint8, zero=131))
    assert set(found.where) == {"w1", "w2"}
    assert result.graph.initializers["w1"].const_value.dtype is ir.DataType.INT8
    assert _zero_types(result) == {"UINT8"}


@pytest.mark.parametrize(("most", "saturates"), [(127, True), (64, False)])
def test_where_sums_saturate_only_weights_of_seven_bits_meet_unsigned_activations(most: int, saturates: bool) -> None:
    for repair, model in (
        (ActivationType(), qdq_cnn(most=most)),
        (WeightType(), qdq_cnn(np.uint8, np.uint8, zero=131, most=most)),
    ):
        found = repair.find(model, AVX2)
        assert bool(found.sites) is not saturates
        assert any("saturate" in skip.reason for skip in found.left) is saturates


@pytest.mark.parametrize(
    "nodes",
    [
        [("MaxPool", ["."], {"kernel_shape": [3, 3], "pads": [1] * 4})],
        [("Reshape", [".", np.array([0, -1], np.int64)], {}), ("Flatten", ["."], {})],
        [("Transpose", ["."], {"perm": [0, 2, 3, 1]}), ("Concat", [".", "."], {"axis": 1})],
        [("Resize", [".", np.float32([]), np.float32([1, 1, 2, 2])], {"mode": "nearest"})],
        [("QLinearSigmoid", [".", "s", "z", "s", "z"], {"domain": "com.microsoft"})],
        [("QLinearAdd", [".", "s", "z", ".", "s", "z", "s", "z"], {"domain": "com.microsoft"})],
        [("QLinearConcat", ["s", "z", ".", "s", "z", ".", "s", "z"], {"axis": 1, "domain": "com.microsoft"})],
        [("QLinearGlobalAveragePool", [".", "s", "z", "s", "z"], {"channels_last": 0, "domain": "com.microsoft"})],
        [
            (
                "QLinearConv",
                [".", "s", "z", np.arange(-50, 22).astype(np.int8).reshape(2, 4, 3, 3), "s", np.int8(0), "s", "z"],
                {},
            )
        ],
    ],
    ids=lambda nodes: nodes[0][0],
)
def test_integers_that_flow_between_operators_move_together(nodes: list) -> None:
    model = _inside(*nodes)
    result, found = mended(ActivationType(), model)
    assert found.sites
    assert not found.left
    assert _zero_types(result) == {"UINT8"}


def test_where_kernels_of_both_types_round_ties_differently_equality_is_not_stated() -> None:
    scale = {"domain": "com.microsoft"}
    for op, exact in (("QLinearMul", False), ("QLinearAdd", True)):
        model = _inside((op, [".", "s", "z", ".", "s", "z", "s", "z"], scale))
        assert ActivationType().find(model, X86).exact is exact


def test_products_of_integers_keep_their_weights() -> None:
    net = QNet(3)
    scale, zero = net.const(np.float32(0.05)), net.zero(3, np.int8)
    x = net.node("QuantizeLinear", "x", scale, zero)
    total = net.node("MatMulInteger", x, net.const(net.integers(8, 4) // 2, "w"), zero, net.zero(0, np.int8))
    net.node("Cast", total, to=F, out="y")
    result, _ = mended(ActivationType(), net.model([("x", F, ["batch", 8])], [("y", F, None)]))
    assert _zero_types(result) == {"UINT8"}
    assert result.graph.initializers["w"].const_value.dtype is ir.DataType.INT8


def test_an_operand_that_is_no_weight_moves_with_the_activations() -> None:
    net = QNet(3)
    x = net.pair("x")
    y = net.node("Add", x, net.stored(net.integers(4, 8, 8), "c", zero=5, per_channel=False))
    net.node("Identity", net.pair(y), out="y")
    result, _ = mended(ActivationType(), net.model([("x", F, ["batch", 4, 8, 8])], [("y", F, None)]))
    assert result.graph.initializers["c"].const_value.dtype is ir.DataType.UINT8


def test_a_missing_zero_point_is_zero() -> None:
    net = QNet(3)
    scale = net.const(np.float32(0.05))
    q = net.node("QuantizeLinear", "x", scale, output_dtype=I8)
    net.node("DequantizeLinear", q, scale, out="y")
    model = net.model([("x", F, ["batch", 4])], [("y", F, None)], opset=21, ir_version=10)
    result, _ = mended(ActivationType(), model)
    assert "output_dtype" not in result.graph[0].attributes
    zero = result.graph[1].inputs[2].const_value.numpy()
    assert (zero.dtype, int(zero)) == (np.uint8, 128)


def test_zero_points_per_channel_move_too() -> None:
    net = QNet(3)
    around = (net.const(net.rng.uniform(0.02, 0.05, 4).astype(np.float32)), net.const(np.arange(-2, 2).astype(np.int8)))
    q = net.node("QuantizeLinear", "x", *around, axis=1)
    net.node("DequantizeLinear", q, *around, axis=1, out="y")
    result, _ = mended(ActivationType(), net.model([("x", F, ["batch", 4])], [("y", F, None)]))
    np.testing.assert_array_equal(result.graph[0].inputs[2].const_value.numpy(), [126, 127, 128, 129])


def _output_of_integers() -> ir.Model:
    net = QNet(3)
    net.node("QuantizeLinear", "x", net.const(np.float32(0.05)), net.zero(3, np.int8), out="y")
    return net.model([("x", F, ["batch", 4])], [("y", I8, None)])


def _input_of_integers() -> ir.Model:
    net = QNet(3)
    net.node("DequantizeLinear", "x", net.const(np.float32(0.05)), net.zero(3, np.int8), out="y")
    return net.model([("x", I8, ["batch", 4])], [("y", F, None)])


def _computed_zero_point() -> ir.Model:
    net = QNet(3)
    scale, zero = net.const(np.float32(0.05)), net.node("Cast", net.node("ReduceMax", "x", keepdims=0), to=I8)
    net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, zero), scale, zero, out="y")
    model = net.model([("x", F, ["batch", 4])], [("y", F, None)])
    model.graph[1].outputs[0].type = ir.TensorType(ir.DataType.INT8)
    return model


def _other_reader() -> ir.Model:
    net = QNet(3)
    scale, zero = net.const(np.float32(0.05)), net.zero(3, np.int8)
    q = net.node("QuantizeLinear", "x", scale, zero)
    net.node("Add", net.node("DequantizeLinear", q, scale, zero), net.node("Cast", q, to=F), out="y")
    return net.model([("x", F, ["batch", 4])], [("y", F, None)])


def _read_in_a_branch() -> ir.Model:
    net, inside = QNet(3), [QNet(4, "then_"), QNet(5, "else_")]
    scale, zero = net.const(np.float32(0.05)), net.zero(3, np.int8)
    q = net.node("QuantizeLinear", "x", scale, zero)
    bodies = []
    for body in inside:
        read = body.node("DequantizeLinear", q, scale, zero)
        output = helper.make_tensor_value_info(read, F, None)
        bodies.append(helper.make_graph(body.nodes, "body", [], [output]))
    net.node("If", net.const(np.array(True)), out="y", then_branch=bodies[0], else_branch=bodies[1])
    return net.model([("x", F, ["batch", 4])], [("y", F, None)])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_read_in_a_branch, "inside a branch or a loop"),
        (_output_of_integers, "an output of the model"),
        (_input_of_integers, "an input of the model"),
        (_computed_zero_point, "is computed"),
        (_other_reader, "Cast reads it"),
    ],
)
def test_integers_that_cannot_move_stay_with_the_reason(make, reason: str) -> None:
    model = make()
    found = ActivationType().find(model, X86)
    assert not found.sites
    assert reason in found.left[0].reason


def test_other_integers_than_of_eight_bits_are_not_looked_at() -> None:
    net = QNet(3)
    around = (net.const(np.float32(0.001)), net.zero(3, np.int16))
    net.node("DequantizeLinear", net.node("QuantizeLinear", "x", *around), *around, out="y")
    model = net.model([("x", F, ["batch", 4])], [("y", F, None)], opset=21, ir_version=10)
    assert not integers_of(model)


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_model_stays_equal(name: str) -> None:
    model = builders.BUILDERS[name]()
    for repair, target in ((ActivationType(), X86), (ActivationType(), ARM), (WeightType(), X86)):
        copy = repair.mended(model, repair.find(model, target))
        feeds = builders.feeds_of(model, batch=1)
        for one, other in zip(builders.run(model, feeds), builders.run(copy, feeds), strict=True):
            np.testing.assert_array_equal(one, other)
