"""Float networks that quantizers of every make get: a small detector, a classifier, a transformer block, an MLP."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Graph:
    """Nodes and random weights of one network."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, out: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        names = (
            [out or f"{op}_{len(self.nodes)}"]
            if outputs == 1
            else [f"{op}_{len(self.nodes)}_{i}" for i in range(outputs)]
        )
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"node_{len(self.nodes)}_{op}", **attributes))
        return names[0] if outputs == 1 else names

    def const(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, gain: float = 1.4) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
        return self.const((self.rng.standard_normal(shape) * gain / np.sqrt(fan_in)).astype(np.float32))

    def conv(self, x: str, cin: int, cout: int, k: int = 3, stride: int = 1, group: int = 1) -> str:
        attributes = {"kernel_shape": [k, k], "pads": [k // 2] * 4, "strides": [stride, stride], "group": group}
        return str(self.node("Conv", x, self.weight(cout, cin // group, k, k), self.weight(cout), **attributes))

    def silu(self, x: str) -> str:
        return str(self.node("Mul", x, self.node("Sigmoid", x)))

    def dense(self, x: str, fan_in: int, fan_out: int) -> str:
        matrix = (self.rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32)
        return str(self.node("Add", self.node("MatMul", x, self.const(matrix)), self.weight(fan_out)))

    def model(self, x: Sequence[int], y: str, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", FLOAT, list(x))],
            [helper.make_tensor_value_info(y, FLOAT, None)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def detector(opset: int = 13) -> onnx.ModelProto:
    """Like YOLOv8: Conv with SiLU, C2f blocks, SPPF, two scales; 16 convolutions and more."""
    g = Graph(8)

    def cbs(x: str, cin: int, cout: int, k: int = 3, stride: int = 1) -> str:
        return g.silu(g.conv(x, cin, cout, k, stride))

    def c2f(x: str, channels: int) -> str:
        half = channels // 2
        left, right = g.node(
            "Split", cbs(x, channels, channels, 1), g.const(np.array([half, half], np.int64)), outputs=2, axis=1
        )
        inner = g.node("Add", right, cbs(cbs(right, half, half), half, half))
        return cbs(str(g.node("Concat", left, right, inner, axis=1)), 3 * half, channels, 1)

    x = cbs(cbs("x", 3, 16, stride=2), 16, 32, stride=2)
    x = cbs(c2f(x, 32), 32, 64, stride=2)
    fine = c2f(x, 64)
    x = cbs(fine, 64, 64, stride=2)
    pooled = [cbs(x, 64, 32, 1)]
    for _ in range(2):
        pooled.append(g.node("MaxPool", pooled[-1], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1]))
    x = cbs(str(g.node("Concat", *pooled, axis=1)), 96, 64, 1)
    scales = g.const(np.array([1, 1, 2, 2], np.float32))
    up = g.node(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    x = cbs(str(g.node("Concat", up, fine, axis=1)), 128, 64, 1)
    boxes, classes = g.conv(cbs(x, 64, 32), 32, 4, 1), g.conv(cbs(x, 64, 32), 32, 8, 1)
    g.node("Concat", boxes, g.node("Sigmoid", classes), axis=1, out="y")
    return g.model([1, 3, 128, 128], "y", opset)


def classifier(opset: int = 13) -> onnx.ModelProto:
    """Like MobileNetV2: inverted residual blocks with ReLU6."""
    g = Graph(3)
    low, high = g.const(np.float32(0)), g.const(np.float32(6))

    def relu6(x: str) -> str:
        return str(g.node("Clip", x, low, high))

    def block(x: str, cin: int, cout: int, stride: int) -> str:
        wide = 4 * cin
        y = relu6(g.conv(x, cin, wide, 1))
        y = g.conv(relu6(g.conv(y, wide, wide, 3, stride, wide)), wide, cout, 1)
        return str(g.node("Add", x, y)) if stride == 1 and cin == cout else y

    x = relu6(g.conv("x", 3, 16, 3, 2))
    for cin, cout, stride in ((16, 24, 2), (24, 24, 1), (24, 48, 2), (48, 48, 1)):
        x = block(x, cin, cout, stride)
    flat = g.node("Flatten", g.node("GlobalAveragePool", x))
    g.node("Gemm", flat, g.weight(10, 48), g.weight(10), transB=1, out="y")
    return g.model([1, 3, 96, 96], "y", opset)


def plain(opset: int = 13) -> onnx.ModelProto:
    """Like a small VGG with ReLU."""
    g = Graph(4)
    x = "x"
    for cin, cout, stride in ((3, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)):
        x = g.node("Relu", g.conv(x, cin, cout, 3, stride))
    flat = g.node("Flatten", g.node("GlobalAveragePool", x))
    g.node("Gemm", flat, g.weight(10, 128), g.weight(10), transB=1, out="y")
    return g.model([1, 3, 32, 32], "y", opset)


def mlp(opset: int = 17) -> onnx.ModelProto:
    """Four Gemm layers with transposed weights and ReLU, as PyTorch exports them."""
    g = Graph(5)
    x = "x"
    for fan_in, fan_out in ((256, 512), (512, 512), (512, 256)):
        x = g.node("Relu", g.node("Gemm", x, g.weight(fan_out, fan_in), g.weight(fan_out), transB=1))
    g.node("Gemm", x, g.weight(16, 256), g.weight(16), transB=1, out="y")
    return g.model([1, 256], "y", opset)


def encoder(opset: int = 17) -> onnx.ModelProto:
    """Two transformer blocks of width 128 without attention masks, GELU by Erf."""
    g = Graph(6)
    width, heads = 128, 4
    x = "x"
    for _ in range(2):
        normed = g.node(
            "LayerNormalization", x, g.const(np.ones(width, np.float32)), g.const(np.zeros(width, np.float32)), axis=-1
        )
        shape = g.const(np.array([1, 32, heads, width // heads], np.int64))
        q, k, v = (g.node("Reshape", g.dense(normed, width, width), shape) for _ in range(3))
        q, v = (g.node("Transpose", a, perm=[0, 2, 1, 3]) for a in (q, v))
        scores = g.node(
            "Mul", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 2, 3, 1])), g.const(np.float32(0.177))
        )
        mixed = g.node("Transpose", g.node("MatMul", g.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        joined = g.node("Reshape", mixed, g.const(np.array([1, 32, width], np.int64)))
        x = g.node("Add", x, g.dense(joined, width, width))
        normed = g.node(
            "LayerNormalization", x, g.const(np.ones(width, np.float32)), g.const(np.zeros(width, np.float32)), axis=-1
        )
        wide = g.dense(normed, width, 4 * width)
        erf = g.node("Add", g.node("Erf", g.node("Div", wide, g.const(np.float32(1.4142135)))), g.const(np.float32(1)))
        gelu = g.node("Mul", g.node("Mul", wide, erf), g.const(np.float32(0.5)))
        x = g.node("Add", x, g.dense(gelu, 4 * width, width))
    g.node("Identity", x, out="y")
    return g.model([1, 32, width], "y", opset)


NETWORKS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "detector": detector,
    "classifier": classifier,
    "plain": plain,
    "mlp": mlp,
    "encoder": encoder,
}
