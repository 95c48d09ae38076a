"""Weights in 4-bit NormalFloats: the published levels, times the largest magnitude of each block."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.errors import UsageError
from onnxopt.model_file import memory, save
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from tests import builders
from tests.builders import F, Net

# Dettmers et al. 2023, QLoRA, appendix E.
LEVELS = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)  # fmt: skip
BLOCK = 64


def quantized(model: ir.Model, **options) -> ir.Model:
    spec = QuantizeWeights(**({"bits": 4, "form": "nf4", "block": BLOCK} | options))
    return Pipeline((spec,)).run(model, Context(target_of("x86-vnni"))).model


def product(op: str, weight: np.ndarray, **attributes) -> ir.Model:
    net = Net(73)
    outputs = weight.shape[0] if attributes.get("transB") else weight.shape[1]
    bias = (net.const(np.arange(outputs, dtype=np.float32)),) if op == "Gemm" else ()
    net.node(op, "x", net.const(weight, "w"), *bias, out="y", name="fc", **attributes)
    features = weight.size // outputs
    return net.model([("x", F, ["batch", features])], [("y", F, ["batch", outputs])], opset=17)


def nearest(weight: np.ndarray) -> np.ndarray:
    """Return a matrix (outputs, features), each number replaced by the nearest level of its block."""
    blocks = weight.reshape(-1, BLOCK)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    chosen = np.abs(blocks[:, :, None] / largest[:, :, None] - LEVELS).argmin(axis=2)
    return (LEVELS[chosen] * largest).reshape(weight.shape)


@pytest.mark.parametrize(
    ("op", "attributes"), [("MatMul", {}), ("Gemm", {}), ("Gemm", {"transB": 1})], ids=["matmul", "gemm", "transposed"]
)
def test_each_number_is_the_nearest_level(op, attributes):
    rows = np.random.default_rng(3).standard_normal((48, 128)).astype(np.float32)
    model = product(op, rows if attributes else np.ascontiguousarray(rows.T), **attributes)
    made = quantized(model)
    (node,) = [node for node in made.graph if node.op_type == "MatMulBnb4"]
    assert node.attributes.get_int("quant_type") == 1
    bias = np.arange(48) if op == "Gemm" else 0
    for optimized in (False, True):
        (found,) = builders.run(made, {"x": np.eye(128, dtype=np.float32)}, optimized)
        np.testing.assert_allclose(found - bias, nearest(rows).T, atol=1e-5)


def test_a_weight_of_two_products_is_stored_once():
    net = Net(74)
    weight = net.weight(64, 64, name="w")
    hidden = net.node("Tanh", net.node("MatMul", "x", weight, name="a"))
    net.node("MatMul", hidden, weight, out="y", name="b")
    made = quantized(net.model([("x", F, ["batch", 64])], [("y", F, ["batch", 64])], opset=17))
    assert {name: v.const_value.nbytes for name, v in made.graph.initializers.items()} == {
        "w_nf4": 64 * 64 // 2,
        "w_absmax": 4 * 64 * 64 // BLOCK,
    }


def test_large_models_are_quantized_weight_by_weight(tmp_path, monkeypatch):
    weight = np.random.default_rng(4).standard_normal((128, 48)).astype(np.float32)
    here = save(quantized(product("MatMul", weight)), tmp_path / "here.onnx")[0]
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10_000)
    large = save(quantized(product("MatMul", weight)), tmp_path / "large.onnx")[0]
    feeds = {"x": np.eye(128, dtype=np.float32)}
    import onnxruntime

    one, other = (onnxruntime.InferenceSession(str(path)).run(None, feeds)[0] for path in (here, large))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{"bits": 8}, {"method": "gptq"}, {"method": "hqq"}])
def test_other_bits_and_methods_are_refused(options):
    with pytest.raises(UsageError, match=r"ONX112.*bits=4,form=nf4"):
        QuantizeWeights(**({"bits": 4, "form": "nf4"} | options))
