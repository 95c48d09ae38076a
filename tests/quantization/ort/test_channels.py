"""All channels at once give the numbers that the runtime computes channel by channel."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import compute_data_quant_params, quantize_onnx_initializer

from onnxopt.quantization.ort import channels

KINDS = [TensorProto.INT8, TensorProto.UINT8]


def weight() -> np.ndarray:
    """Return a weight with a channel of zeros, one of denormals and one of a single sign on either axis."""
    array = np.random.default_rng(0).standard_normal((6, 6, 3)).astype(np.float32)
    array[1], array[:, 1] = 0, 0
    array[2], array[:, 2] = 1e-40, 1e-40
    array[3], array[:, 3] = np.abs(array[3]), np.abs(array[:, 3])
    return array


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_scales_and_integers_are_those_of_the_runtime(kind: int, axis: int, narrow: bool, given: bool) -> None:
    array = weight()
    ranges = [{"axis": axis, "rmin": -0.5 * i, "rmax": 0.3 * i} if given else {} for i in range(6)]
    made = channels.parameters(array, axis, kind, ranges if given else [{}], reduce_range=narrow)
    assert made is not None
    zero_point, scale = made
    for i, (ends, channel) in enumerate(zip(ranges, np.moveaxis(array, axis, 0), strict=True)):
        zero, one = compute_data_quant_params(
            channel.ravel(), kind, True, narrow, None, ends.get("rmin"), ends.get("rmax")
        )
        assert (zero_point[i], scale[i]) == (zero, one)
        assert (zero_point.dtype, scale.dtype) == (zero.dtype, one.dtype)
    tensor = numpy_helper.from_array(array, "w")
    stored = numpy_helper.to_array(quantize_onnx_initializer(tensor, kind, zero_point, scale, axis))
    assert np.array_equal(channels.integers(array, axis, kind, zero_point, scale), stored)


@pytest.mark.parametrize(
    ("array", "kind", "ranges"),
    [
        (np.ones((2, 2), np.float16), TensorProto.INT8, [{}]),
        (np.ones((2, 2), np.float32), TensorProto.INT16, [{}]),
        (np.ones((2, 0), np.float32), TensorProto.INT8, [{}]),
        (np.full((2, 2), np.inf, np.float32), TensorProto.INT8, [{}]),
        (np.ones((2, 2), np.float32), TensorProto.INT8, [{"axis": 0, "rmin": -1.0, "rmax": 1.0}]),
        (np.ones((2, 2), np.float32), TensorProto.INT8, [{"scale": 1.0, "zero_point": 0}]),
    ],
)
def test_what_is_not_foreseen_is_left_to_the_runtime(array: np.ndarray, kind: int, ranges: list[dict]) -> None:
    assert channels.parameters(array, 0, kind, ranges, reduce_range=False) is None


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_a_scale_grows_for_its_bias_as_in_the_runtime(size: float) -> None:
    scale = np.array([1e-9, 1e-3, 0, 1e-12], np.float32)
    bias = np.array([size, 2, 3, -size], np.float32)
    tensor: onnx.TensorProto = numpy_helper.from_array(bias, "b")
    grown, expected = QDQQuantizer._adjust_weight_scale_for_int32_bias(
        None, np.array(1e-3, np.float32), scale.copy(), "w", tensor, True
    )
    wider = channels.wide_enough(scale, float(np.float32(1e-3)), bias)
    assert grown
    assert wider is not None
    assert np.array_equal(wider, expected)


def test_a_scale_that_is_wide_enough_stays() -> None:
    assert channels.wide_enough(np.ones(3, np.float32), 1.0, np.ones(3, np.float32)) is None
