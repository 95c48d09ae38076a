"""Small models to check a pass on: one for each of the structures that most graphs are made of."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight

_HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "dense": """
            dense (float[N, 16] x, float[16, 32] w1, float[32] b1, float[32, 4] w2, float[4] b2) => (float[N, 4] y) {
                h = Gemm(x, w1, b1)
                r = Relu(h)
                y = Gemm(r, w2, b2)
            }""",
        "residual_convolutions": """
            residual (float[N, 3, 8, 8] x, float[16, 3, 3, 3] w1, float[16] scale, float[16] shift, float[16] mean,
                      float[16] variance, float[16, 16, 3, 3] w2, float[10, 16] w3) => (float[N, 10] y) {
                c = Conv <pads = [1, 1, 1, 1]> (x, w1)
                n = BatchNormalization(c, scale, shift, mean, variance)
                a = Relu(n)
                d = Conv <pads = [1, 1, 1, 1]> (a, w2)
                s = Add(a, d)
                p = GlobalAveragePool(s)
                f = Flatten(p)
                y = Gemm <transB = 1> (f, w3)
            }""",
        "depthwise": """
            depthwise (float[N, 8, 8, 8] x, float[8, 1, 3, 3] w1, float[12, 8, 1, 1] w2) => (float[N, 12, 8, 8] y) {
                d = Conv <group = 8, pads = [1, 1, 1, 1]> (x, w1)
                c = Clip(d)
                y = Conv(c, w2)
            }""",
        "attention": """
            attention (float[N, T, 16] x, float[16, 16] wq, float[16, 16] wk, float[16, 16] wv, float[16] scale,
                       float[16] shift) => (float[N, T, 16] y) {
                q = MatMul(x, wq)
                k = MatMul(x, wk)
                v = MatMul(x, wv)
                t = Transpose <perm = [0, 2, 1]> (k)
                s = MatMul(q, t)
                p = Softmax <axis = -1> (s)
                o = MatMul(p, v)
                r = Add(x, o)
                y = LayerNormalization(r, scale, shift)
            }""",
        "two_outputs": """
            two (float[N, 8] x, float[8, 8] w1, float[8, 3] w2) => (float[N, 8] features, float[N, 3] classes) {
                h = MatMul(x, w1)
                features = Tanh(h)
                l = MatMul(features, w2)
                classes = Softmax <axis = -1> (l)
            }""",
        "branch": """
            branch (float[N, 8] x, float[8, 8] w1) => (float[N, 8] y) {
                h = MatMul(x, w1)
                total = ReduceSum <keepdims = 0> (h)
                zero = Constant <value = float {0.0}> ()
                positive = Greater(total, zero)
                y = If (positive) <
                    then_branch = then () => (float[N, 8] a) { a = Relu(h) },
                    else_branch = otherwise () => (float[N, 8] b) { b = Neg(h) }>
            }""",
    }
)
_DATA_INPUT = "x"


def model_names() -> tuple[str, ...]:
    """Return the names of all small models."""
    return tuple(_TEXTS)


def small_model(name: str, seed: int = 0) -> ir.Model:
    """Return the small model called `name`, with random weights.

    Raises:
        KeyError: no model has this name.
    """
    model = ir.from_onnx_text(_HEAD + _TEXTS[name])
    rng = np.random.default_rng(seed)
    graph = model.graph
    for value in [v for v in graph.inputs if v.name != _DATA_INPUT]:
        shape = tuple(size for size in value.shape or () if isinstance(size, int))
        graph.inputs.remove(value)
        set_weight(value, _weight(rng, value.name or "", shape))
        graph.register_initializer(value)
    return model


def _weight(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(rng.standard_normal(shape)) / math.sqrt(max(math.prod(shape[1:]), 1))
    positive = name in ("variance", "scale")
    return np.asarray(np.abs(values) + 0.5 if positive else values, dtype=np.float32)
