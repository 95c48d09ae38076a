"""Block-wise weights: error bounds, and the bit layout as ONNX Runtime reads it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.quantization.rounding.blockwise import _POWER, Blocks, round_to_nearest, shrunk
from tests.quantization.rounding.blocks import dequantized

SHAPES = [(8, 64), (5, 96), (7, 50), (3, 20)]


def weight_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, shape).astype(np.float32)


def runtime_product(x: np.ndarray, blocks: Blocks, level: int) -> np.ndarray:
    outputs, _, size = blocks.integers.shape
    arrays = dict(zip("BSZ", blocks.packed(), strict=True))
    node = helper.make_node(
        "MatMulNBits", ["x", "B", "S", "Z"], ["y"], domain="com.microsoft",
        K=blocks.features, N=outputs, bits=blocks.bits, block_size=size, accuracy_level=level,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(x), outputs])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_runtime_multiplies_with_the_dequantized_weight(bits: int, shape: tuple[int, int]) -> None:
    blocks = round_to_nearest(weight_of(shape), bits, 32)
    x = weight_of((3, shape[1]), 1)
    exact = x @ dequantized(blocks).T
    np.testing.assert_allclose(runtime_product(x, blocks, 0), exact, rtol=1e-4, atol=1e-4)
    # Level 4 rounds the activations to 8 bits as well.
    error = np.linalg.norm(runtime_product(x, blocks, 4) - exact) / np.linalg.norm(exact)
    assert error < 0.03


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_to_nearest_is_off_by_one_step_at_most(bits: int, shape: tuple[int, int]) -> None:
    weight = weight_of(shape)
    blocks = round_to_nearest(weight, bits, 32)
    steps = np.repeat(blocks.scale, 32, axis=1)[:, : shape[1]]
    # Half a step of the value and half of the rounded zero point at the ends of the range.
    assert (np.abs(weight - dequantized(blocks)) <= steps * 1.001).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bits", [4, 8])
def test_integers_and_zero_points_of_shrunk_grids_fill_the_bits_and_do_not_exceed_them(bits: int) -> None:
    weight = np.concatenate([weight_of((64, 64)), np.zeros((1, 64), np.float32)])
    blocks = shrunk(weight, bits, 32)
    assert (blocks.integers.min(), blocks.integers.max()) == (0, 2**bits - 1)
    assert blocks.zero_point.max() < 2**bits
    assert not dequantized(blocks)[-1].any()


def test_zeros_stay_zero() -> None:
    weight = weight_of((4, 64))
    weight[:, ::3] = 0
    weight[1] = 0
    found = dequantized(round_to_nearest(weight, 4, 32))
    assert not found[weight == 0].any()


@pytest.mark.parametrize("bits", [2, 4])
def test_a_block_keeps_the_grid_with_the_smallest_error_of_all_rounds(bits: int) -> None:
    weight = weight_of((16, 256), seed=3)

    def errors(rounds: int) -> np.ndarray:
        blocks = shrunk(weight, bits, 32, rounds)
        return (np.abs(dequantized(blocks) - weight) ** _POWER).reshape(16, -1, 32).sum(-1)

    by_rounds = np.array([errors(rounds) for rounds in (1, 2, 4, 8, 16)])
    assert (np.diff(by_rounds, axis=0) <= 1e-4).all()
