"""A layer as a matrix gives what ONNX Runtime gives, and other weights come out as they were put in."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnxopt.model_file import to_bytes
from onnxopt.reconstruction.layers import bias_of, drop_zero_biases, linear_layers, with_biases, write_layer
from tests import builders, numerics

F, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def net_of(seed: int = 0) -> builders.Net:
    return builders.Net(seed)


def check(model: ir.Model, x: np.ndarray, tolerance: float = numerics.EXACT_RELATIVE) -> None:
    """Compare the only linear layer with ONNX Runtime, as it is and with other weights."""
    (layer,) = linear_layers(model).values()
    (y,) = builders.run(model, {"x": x})
    if layer.bias_follows:
        y = y - model.graph.initializers[layer.bias].const_value.numpy()
    rows, outputs = layer.rows(x, y, 1 << 30, 0)
    weight = model.graph.initializers[layer.weight].const_value.numpy()
    matrix, bias = layer.matrix(weight), bias_of(model, layer, weight.shape[layer.out_axis])
    assert len(rows) * len(matrix) == y.size
    assert numerics.largest_difference([outputs.astype(float)], [rows @ matrix.T + bias]) < tolerance
    assert np.allclose(layer.array(matrix, weight), weight, rtol=1e-3 if weight.dtype == np.float16 else 1e-6)

    rng = np.random.default_rng(1)
    other = rng.standard_normal(matrix.shape) / np.sqrt(matrix.shape[1])
    offset = rng.standard_normal(len(bias)) if layer.bias is not None else np.zeros(len(bias))
    before = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}
    write_layer(model, layer, other, offset)
    after = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}
    assert {n for n in before if not np.array_equal(before[n], after[n])} == {layer.weight, layer.bias} - {None}
    assert all(before[n].dtype == after[n].dtype and before[n].shape == after[n].shape for n in before)
    (changed,) = builders.run(model, {"x": x})
    if layer.bias_follows:
        changed = changed - before[layer.bias]
    expected = rows @ other.T + bias + offset
    assert numerics.largest_difference([expected], [layer.rows(x, changed, 1 << 30, 0)[1].astype(float)]) < tolerance


@st.composite
def windows(draw: st.DrawFn, transposed: bool) -> tuple[int, dict[str, Any]]:
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    attrs: dict[str, Any] = {"kernel_shape": each(1, 3), "strides": each(1, 3), "dilations": each(1, 2)}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", *(() if transposed else ("SAME_UPPER", "SAME_LOWER"))]))
    if auto == "NOTSET":
        attrs["pads"] = each(0, 3, 2 * rank)
    else:
        attrs["auto_pad"] = auto
    if auto.startswith("SAME"):
        # ONNX Runtime dilates no kernel whose padding it works out.
        attrs["dilations"] = [1] * rank
    if transposed and draw(st.booleans()):
        attrs["output_padding"] = [draw(st.integers(0, s - 1)) for s in attrs["strides"]]
    for name in draw(st.sets(st.sampled_from(["strides", "dilations"]))):
        attrs.pop(name)
        attrs.pop("output_padding", None)
    return rank, attrs


def _fits(op: str, attrs: dict[str, Any], axis: int, size: int) -> bool:
    """Whether something comes out along a spatial axis."""
    rank = len(attrs["kernel_shape"])
    stride, dilation = attrs.get("strides", [1] * rank)[axis], attrs.get("dilations", [1] * rank)[axis]
    extent = (attrs["kernel_shape"][axis] - 1) * dilation + 1
    pads = sum(attrs.get("pads", [0] * 2 * rank)[axis::rank])
    if op == "Conv":
        return attrs.get("auto_pad", "VALID").startswith("SAME") or size + pads >= extent
    return (size - 1) * stride + extent + attrs.get("output_padding", [0] * rank)[axis] > pads


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@given(data=st.data(), has_bias=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_convolutions(op, data, has_bias, seed):
    rank, attrs = data.draw(windows(op == "ConvTranspose"))
    net, sizes = net_of(seed), data.draw(st.lists(st.integers(3, 6), min_size=rank, max_size=rank))
    assume(all(_fits(op, attrs, i, size) for i, size in enumerate(sizes)))
    shape = (4, 3) if op == "Conv" else (3, 4)
    inputs = ["x", net.weight(*shape, *attrs["kernel_shape"])] + ([net.weight(4)] if has_bias else [])
    net.node(op, *inputs, out="y", **attrs)
    model = net.model([("x", F, [2, 3, *sizes])], [("y", F, None)])
    x = np.random.default_rng(seed).standard_normal((2, 3, *sizes)).astype(np.float32)
    check(model, x)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_a_transposed_convolution_that_computes_its_padding_is_no_layer(auto_pad):
    net = net_of()
    net.node("ConvTranspose", "x", net.weight(3, 4, 3, 3), out="y", auto_pad=auto_pad, strides=[2, 2])
    assert not linear_layers(net.model([("x", F, [2, 3, 5, 5])], [("y", F, None)]))


def test_grouped_convolutions_and_shared_weights_are_no_layers():
    net = net_of()
    grouped = net.node("Conv", "x", net.weight(4, 2, 1, 1), group=2)
    shared = net.weight(4, 4, 1, 1)
    net.node("Conv", net.node("Conv", grouped, shared), shared, out="y")
    assert not linear_layers(net.model([("x", F, [1, 4, 5, 5])], [("y", F, None)]))


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("shape", [None, (4,), (1, 4)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (-2.0, 0.25)])
def test_gemm(turned, shape, alpha, beta):
    net = net_of()
    inputs = ["x", net.weight(*((4, 6) if turned else (6, 4)))] + ([net.weight(*shape)] if shape else [])
    net.node("Gemm", *inputs, out="y", transB=turned, alpha=alpha, beta=beta)
    model = net.model([("x", F, ["n", 6])], [("y", F, ["n", 4])])
    check(model, np.random.default_rng(0).standard_normal((7, 6)).astype(np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (7, 1), (7, 4)])
def test_gemm_with_a_bias_that_is_not_one_per_output_is_no_layer(shape):
    net = net_of()
    net.node("Gemm", "x", net.weight(6, 4), net.weight(*shape), out="y")
    assert not linear_layers(net.model([("x", F, [7, 6])], [("y", F, [7, 4])]))


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [None, (4,), (1, 4)])
@pytest.mark.parametrize("kind", [F, HALF])
def test_a_product_with_the_weight_on_the_right(rank, bias, kind):
    shape = (2, 3, 5, 6)[-rank:]
    _product_is_right("x", 6, 4, bias, shape, kind)


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("bias", [None, (4, 1), (1, 4, 1)])
def test_a_product_with_the_weight_on_the_left(rank, bias):
    _product_is_right("w", 4, 5, bias, (2, 3, 5, 6)[-rank:], F)


def _product_is_right(first: str, rows: int, columns: int, bias: Any, shape: Any, kind: int) -> None:
    net, dtype = net_of(), np.float16 if kind == HALF else np.float32
    weight = net.const(net.rng.standard_normal((rows, columns)).astype(dtype), "w")
    product = net.node("MatMul", *(("x", weight) if first == "x" else (weight, "x")), out="y" if bias is None else None)
    if bias is not None:
        net.node("Add", net.const(net.rng.standard_normal(bias).astype(dtype)), product, out="y")
    model = net.model([("x", kind, shape)], [("y", kind, None)])
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    check(model, x, numerics.HALF_RELATIVE if kind == HALF else numerics.EXACT_RELATIVE)


def test_a_vector_right_of_a_weight_is_left_alone():
    net = net_of()
    net.node("MatMul", net.weight(4, 6), "x", out="y")
    model = net.model([("x", F, [6])], [("y", F, [4])])
    assert not linear_layers(model)
    assert not with_biases(model)


def test_rows_are_limited_and_drawn_by_the_seed():
    net = net_of()
    net.node("MatMul", "x", net.weight(6, 4), out="y")
    (layer,) = linear_layers(net.model([("x", F, ["n", 6])], [("y", F, ["n", 4])])).values()
    x = np.arange(600.0).reshape(100, 6)
    y = x[:, :4] + 1
    ins, outs = layer.rows(x, y, 10, 3)
    assert len(ins) == 10
    assert np.array_equal(ins[:, :4] + 1, outs)
    assert np.array_equal(ins, layer.rows(x, y, 10, 3)[0])
    assert not np.array_equal(ins, layer.rows(x, y, 10, 4)[0])


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_biases_of_zeros_change_nothing_and_go_again(name):
    model = builders.BUILDERS[name]()
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    expected, before = builders.run(model, feeds), to_bytes(model)
    changed = model.clone()
    made = with_biases(changed)
    assert all(layer.bias is not None for layer in linear_layers(changed).values())
    assert numerics.largest_difference(expected, builders.run(changed, feeds)) < numerics.EXACT_RELATIVE
    drop_zero_biases(changed, made)
    assert to_bytes(changed) == before


def test_an_output_keeps_its_name_when_its_layer_gets_a_bias_that_stays():
    net = net_of()
    net.node("MatMul", "x", net.weight(6, 4), out="y", name="last")
    model = net.model([("x", F, ["n", 6])], [("y", F, ["n", 4])])
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    (before,) = builders.run(model, {"x": x})
    made = with_biases(model)
    (layer,) = linear_layers(model).values()
    weight = layer.matrix(model.graph.initializers[layer.weight].const_value.numpy())
    write_layer(model, layer, weight, np.arange(1.0, 5.0))
    drop_zero_biases(model, made)
    (after,) = builders.run(model, {"x": x})
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert np.allclose(after, before + np.arange(1.0, 5.0), atol=1e-5)


def test_a_bias_left_of_columns_is_found_again():
    net = net_of()
    net.node("MatMul", net.weight(4, 5), "x", out="y")
    model = net.model([("x", F, [2, 5, 6])], [("y", F, [2, 4, 6])])
    (name,) = with_biases(model)
    (layer,) = linear_layers(model).values()
    assert layer.bias == name
    assert layer.bias_follows


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_a_gemm_with_a_factor_that_has_no_inverse_is_no_layer(name: str, factor: float) -> None:
    net = net_of()
    net.node("Gemm", "x", net.weight(4, 3), net.weight(3), out="y", **{name: factor})
    assert linear_layers(net.model([("x", F, [2, 4])], [("y", F, [2, 3])])) == {}
