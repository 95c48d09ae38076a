"""Chains of equal convolutions: models whose ratio of times is known by their lengths."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUTS = 32


@dataclass(frozen=True)
class Form:
    """A layer and how many of them the shorter chain has.

    Attributes:
        precision: `float` or `int8`.
        side: of the image a convolution reads.
        count: divisible by 20, so that every factor gives whole layers; or by 4 where it is small.
    """

    name: str
    precision: str
    side: int
    channels: int
    count: int


FORMS = (
    Form("float, 30 us", "float", 4, 4, 20),
    Form("int8, 100 us", "int8", 8, 8, 20),
    Form("float, 1 ms", "float", 32, 16, 20),
    Form("int8, 1 ms", "int8", 48, 16, 20),
    Form("float, 10 ms", "float", 64, 32, 20),
    Form("float, 25 ms", "float", 96, 32, 20),
)
"""A chain of the longest is four times as long as the shortest of its form: 100 ms."""


def chain(form: Form, factor: float) -> bytes:
    """Return a chain of `form.count * factor` convolutions of small weights."""
    rng, size = np.random.default_rng(0), (1, form.channels, form.side, form.side)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    before = "x"
    for i in range(round(form.count * factor)):
        weight = rng.normal(scale=(9 * form.channels) ** -0.5, size=(form.channels, form.channels, 3, 3))
        if form.precision == "float":
            inputs = [before, constant(f"w{i}", weight.astype(np.float32))]
        else:
            scale, zero = constant(f"s{i}", np.float32(0.05)), constant(f"z{i}", np.uint8(128))
            weight_scale = constant(f"ws{i}", np.float32(np.abs(weight).max() / 127))
            whole = np.round(weight / np.abs(weight).max() * 127).astype(np.int8)
            nodes += [
                helper.make_node("QuantizeLinear", [before, scale, zero], [f"q{i}"]),
                helper.make_node("DequantizeLinear", [f"q{i}", scale, zero], [f"d{i}"]),
                helper.make_node(
                    "DequantizeLinear",
                    [constant(f"w{i}", whole), weight_scale, constant(f"wz{i}", np.int8(0))],
                    [f"f{i}"],
                ),
            ]
            inputs = [f"d{i}", f"f{i}"]
        nodes.append(helper.make_node("Conv", inputs, [f"y{i}"], pads=[1, 1, 1, 1]))
        before = f"y{i}"
    if form.precision == "int8":  # the last layer is then computed in INT8 too
        nodes += [
            helper.make_node("QuantizeLinear", [before, "s0", "z0"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s0", "z0"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", [before], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def inputs_of(form: Form) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    size = (1, form.channels, form.side, form.side)
    return [{"x": rng.normal(size=size).astype(np.float32)} for _ in range(INPUTS)]
