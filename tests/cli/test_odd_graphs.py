"""Graphs in which a layer's output is split, sliced, constant or of 16 bits: all commands about layers end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.builders import IMAGE, Net

F = TensorProto.FLOAT


def split_convolution() -> onnx.ModelProto:
    """A cross-stage block: the output of one convolution is cut in two, one part goes on, all are joined."""
    net = Net(1)
    a, b = net.node("Split", net.node("Relu", net.conv("x", 3, 16)), net.ints(8, 8), outs=2, axis=1)
    c = net.node("Relu", net.conv(b, 8, 8))
    net.pool_fc(net.conv(net.node("Concat", a, b, c, axis=1), 24, 8), 8, 4)
    return net.proto([IMAGE], [("y", F, ["batch", 4])])


def fused_projection() -> onnx.ModelProto:
    """Query, key and value are slices of one product."""
    net = Net(2)
    all_three = net.node("MatMul", "x", net.weight(8, 24))
    q, k, v = (net.node("Slice", all_three, net.ints(8 * i), net.ints(8 * i + 8), net.ints(2)) for i in range(3))
    scores = net.node("Softmax", net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1])), axis=-1)
    net.node("MatMul", net.node("MatMul", scores, v), net.weight(8, 8), out="y")
    return net.proto([("x", F, ["batch", 5, 8])], [("y", F, ["batch", 5, 8])])


def constant_outputs() -> onnx.ModelProto:
    """Beside its answer the model gives anchors that are a product of weights, a weight, and its input."""
    net = Net(3)
    hidden = net.node("Relu", net.node("MatMul", "x", net.weight(8, 16)))
    net.node("MatMul", hidden, net.weight(16, 4), out="y")
    net.node("Mul", net.weight(4, 4), net.weight(4, 4), out="anchors")
    net.node("Identity", "x", out="same")
    net.weight(6, name="raw")
    outputs = [("y", F, ["batch", 4]), ("anchors", F, [4, 4]), ("same", F, ["batch", 8]), ("raw", F, [6])]
    return net.proto([("x", F, ["batch", 8])], outputs)


def product_of_weights() -> onnx.ModelProto:
    """A layer's weight is the product of two."""
    net = Net(4)
    weight = net.node("MatMul", net.weight(8, 4), net.weight(4, 8))
    hidden = net.node("Relu", net.node("MatMul", "x", weight))
    net.node("MatMul", hidden, net.weight(8, 4), out="y")
    return net.proto([("x", F, ["batch", 8])], [("y", F, ["batch", 4])])


def attention_of_three_axes() -> onnx.ModelProto:
    """The standard Attention, whose heads are an attribute."""
    net = Net(5)
    parts = [net.node("MatMul", "x", net.weight(8, 8)) for _ in range(3)]
    seen = net.node("Attention", *parts, q_num_heads=2, kv_num_heads=2)
    net.node("MatMul", seen, net.weight(8, 8), out="y")
    return net.proto([("x", F, ["batch", 5, 8])], [("y", F, ["batch", 5, 8])], opset=23, ir_version=11)


def output_without_shape() -> onnx.ModelProto:
    net = Net(6)
    net.pool_fc(net.node("Relu", net.conv("x", 3, 8)), 8, 4)
    return net.proto([IMAGE], [("y", F, None)])


def half_in_the_middle() -> onnx.ModelProto:
    net = Net(7)
    low = net.node("Cast", "x", to=TensorProto.FLOAT16)
    weights = [net.const(net.rng.standard_normal((8, 8)).astype(np.float16)) for _ in range(2)]
    low = net.node("MatMul", net.node("Relu", net.node("MatMul", low, weights[0])), weights[1])
    net.node("MatMul", net.node("Cast", low, to=F), net.weight(8, 4), out="y")
    return net.proto([("x", F, ["batch", 8])], [("y", F, ["batch", 4])])


GRAPHS: list[Callable[[], onnx.ModelProto]] = [
    split_convolution,
    fused_projection,
    constant_outputs,
    product_of_weights,
    attention_of_three_axes,
    output_without_shape,
    half_in_the_middle,
]


@pytest.fixture(params=GRAPHS, ids=lambda make: make.__name__)
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A model file, and a file of samples."""
    proto = request.param()
    onnx.save(proto, tmp_path / "m.onnx")
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32))
    return tmp_path / "m.onnx", tmp_path / "x.npz"


def test_sensitivity_is_a_table_of_all_layers(cli, graph) -> None:
    model, data = graph
    ended = cli("sensitivity", model, "-d", data, "--format", "json")
    assert ended.code == 0, ended.err
    layers = json.loads(ended.out)["layers"]
    assert layers
    assert all(layer["why"] or layer["error"] >= 0 for layer in layers)


def test_layers_are_factorized_or_left_with_a_reason(cli, graph, tmp_path) -> None:
    model, data = graph
    passes = "factorize{rank_ratio=0.5,round_to=1,verify=false}"
    ended = cli("apply", model, "--passes", passes, "-d", data, "-o", tmp_path / "f.onnx", "--format", "json")
    assert ended.code == 0, ended.err
    (step,) = json.loads(ended.out)["steps"]
    assert step["edits"] or step["skipped"]


def test_what_quantize_wrote_is_diagnosed(cli, graph, tmp_path) -> None:
    model, data = graph
    small = tmp_path / "q.onnx"
    assert cli("quantize", model, "-d", data, "-o", small, "-q").code == 0
    ended = cli("diagnose", model, small, "-d", data, "--format", "json")
    assert ended.code == 0, ended.err
    layers = json.loads(ended.out)["layers"]
    assert any(layer["quantized"] and layer["own_db"] is not None for layer in layers)
