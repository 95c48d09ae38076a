"""The numpy reference of affine quantization: the runtime's bits, and the bounds that theory promises."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxopt.quantization.affine import LIMITS, quantize
from tests import numerics, strategies
from tests.quantization.affine import dequantize, parameters


def runtime(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, dtype: str, axis: int | None) -> list[Any]:
    """Return what ONNX Runtime quantizes to, as int32, and dequantizes to."""
    kind = TensorProto.DataType.Value(dtype.upper())
    shape = list(np.shape(scale))
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **attributes),
        helper.make_node("Cast", ["q"], ["i"], to=TensorProto.INT32),
    ]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, shape, np.ravel(scale)),
        helper.make_tensor("zero", kind, shape, np.ravel(zero_point).astype(int)),
    ]
    outputs = [helper.make_tensor_value_info("i", TensorProto.INT32, x.shape)]
    outputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)], outputs, constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def hard_values(scale: float, limits: tuple[int, int], seed: int) -> np.ndarray:
    """Return ties, their neighbours, whole steps, values far outside, and random ones."""
    rng = np.random.default_rng(seed)
    steps = np.concatenate([np.arange(-20, 20) + 0.5, np.arange(-20, 20), np.array(limits) + 0.5, np.array(limits)])
    ties = (steps * scale).astype(np.float32)
    around = [np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf))]
    spread = (rng.uniform(2.2 * limits[0] - 8, 1.2 * limits[1] + 8, 400) * scale).astype(np.float32)
    return np.concatenate([ties, *around, spread, np.array([0, -0.0, 1e30, -1e30], np.float32)]).astype(np.float32)


@pytest.mark.parametrize("zero", ["low", "middle", "high"])
@pytest.mark.parametrize("scale", [0.25, 1.0, 0.1, 0.0073])
@pytest.mark.parametrize("dtype", LIMITS)
def test_quantize_is_the_runtimes_bit_for_bit(dtype: str, scale: float, zero: str) -> None:
    limits = LIMITS[dtype]
    point = np.array({"low": limits[0], "middle": sum(limits) // 2 + 1, "high": limits[1]}[zero])
    step = np.float32(scale)
    x = hard_values(scale, limits, seed=int(scale * 1000))
    q, y = runtime(x, np.array(step), point, dtype, None)
    ours = quantize(x, np.array(step), point, dtype)
    np.testing.assert_array_equal(ours, q)
    np.testing.assert_array_equal(dequantize(ours, np.array(step), point), y)


@pytest.mark.parametrize("dtype", LIMITS)
def test_channels_have_scales_of_their_own(dtype: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 3, 50)).astype(np.float32)
    scale, zero = np.array([0.01, 0.5, 0.07], np.float32), np.array([0, 1, 2])
    q, y = runtime(x, scale, zero, dtype, 1)
    ours = quantize(x, scale, zero, dtype, axis=1)
    np.testing.assert_array_equal(ours, q)
    np.testing.assert_array_equal(dequantize(ours, scale, zero, axis=1), y)


@given(strategies.activations(), st.sampled_from(["int4", "uint4", "int8", "uint8"]), st.booleans())
def test_the_error_inside_the_range_is_half_a_step_and_zero_is_exact(
    values: np.ndarray, dtype: str, symmetric: bool
) -> None:
    scale, zero = parameters(float(values.min()), float(values.max()), dtype, symmetric=symmetric)
    back = dequantize(quantize(values, scale, np.array(zero), dtype), scale, np.array(zero))
    low, high = ((limit - zero) * float(scale) for limit in LIMITS[dtype])
    inside = (values >= low) & (values <= high)
    error = np.abs(back.astype(np.float64) - values)
    assert (error[inside] <= scale / 2 * (1 + numerics.ROUNDING_SLACK)).all()
    # The zero point is whole, so one end of the range may lie up to half a step outside the grid.
    assert (error <= scale * (1 + numerics.ROUNDING_SLACK)).all()
    exact = quantize(np.zeros(1, np.float32), scale, np.array(zero), dtype)
    assert exact.item() == zero
    assert dequantize(exact, scale, np.array(zero)).item() == 0


def test_a_range_of_nothing_has_a_scale() -> None:
    assert parameters(0, 0, "uint8") == (1, 0)
    assert parameters(0, 0, "int8", symmetric=True) == (1, 0)
