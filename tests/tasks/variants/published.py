"""A small encoder as Transformers exports them, and the files that people publish beside one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import TensorProto

from onnxopt.catalog import parse
from onnxopt.graph.edit import set_weight
from onnxopt.model_file import save
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from tests.builders import I64, F, Net

WIDTH, ROWS = 64, 50


def encoder(*, softmax: bool = True, mirrored: bool = False) -> ir.Model:
    """Return a classifier of token numbers with a mask; `mirrored` has the same weights and turns its answers round."""
    net = Net(5)
    x = net.node("Gather", net.weight(ROWS, WIDTH, name="table"), "input_ids", axis=0)
    x = net.node("Mul", x, net.node("Unsqueeze", net.node("Cast", "attention_mask", to=F), net.ints(-1)))
    x = net.node("Tanh", net.node("MatMul", x, net.weight(WIDTH, 96, name="up")))
    x = net.node("MatMul", x, net.weight(96, WIDTH, name="down"))
    pooled = net.node("ReduceMean", x, axes=[1], keepdims=0)
    scores = net.node("Mul", net.node("MatMul", pooled, net.weight(WIDTH, 6, name="head")), net.const(np.float32(12)))
    if mirrored:
        scores = net.node("Neg", scores)
    net.node("Softmax" if softmax else "Identity", scores, out="logits")
    ids, mask = (
        ("input_ids", I64, ["batch_size", "sequence_length"]),
        ("attention_mask", I64, ["batch_size", "sequence_length"]),
    )
    return net.model([ids, mask], [("logits", F, ["batch_size", 6])], opset=17)


def pair(*, swapped: bool = False) -> ir.Model:
    """Return a model of two outputs of one shape; `swapped` gives each under the name of the other."""
    net = Net(6)
    start, end = ("end", "start") if swapped else ("start", "end")
    hidden = net.node("Tanh", net.node("MatMul", "x", net.weight(8, 40)))
    net.node("MatMul", hidden, net.weight(40, 40), out=start)
    net.node("MatMul", hidden, net.weight(40, 40), out=end)
    outputs = [("start", F, ["batch", 40]), ("end", F, ["batch", 40])]
    return net.model([("x", F, ["batch", 8])], outputs, opset=17)


def made(passes: str, model: Callable[[], ir.Model] = encoder) -> ir.Model:
    """Return what passes make of a model."""
    return Pipeline(parse(passes)).run(model(), Context(target_of("x86-vnni"))).model


def with_weight(model: ir.Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ir.Model:
    """Return the model with one weight changed."""
    value = model.graph.initializers[name]
    assert value.const_value is not None
    set_weight(value, change(value.const_value.numpy()).astype(np.float32))
    return model


def published(folder: Path) -> Path:
    """Write a folder as one finds it: a good file of 8 bits, and faults that are known from published ones."""
    onnx = folder / "onnx"
    onnx.mkdir(parents=True)
    save(encoder(), onnx / "model.onnx")
    save(made("quantize-dynamic{weight_type=uint8,reduce_range=no}"), onnx / "model_int8.onnx")
    return folder


def samples() -> dict[str, np.ndarray]:
    """Return sentences of eight tokens."""
    ids = np.random.default_rng(7).integers(0, ROWS, (96, 8))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def half(*, wide: bool) -> ir.Model:
    """Return a product, with inputs and outputs of 32 or 16 bits."""
    net = Net(8)
    weight = (net.rng.standard_normal((8, 4)) / 3).astype(np.float16)
    net.node("MatMul", "x", net.const(weight.astype(np.float32) if wide else weight), out="y")
    kind = F if wide else TensorProto.FLOAT16
    return net.model([("x", kind, ["batch", 8])], [("y", kind, ["batch", 4])], opset=17)


def decoder() -> ir.Model:
    """Return one layer of attention over a cache that grows by concatenation."""
    net = Net(9)
    x = net.node("Gather", net.weight(ROWS, 8), "input_ids", axis=0)
    x = net.node("Add", x, net.node("Gather", net.weight(32, 8), "position_ids", axis=0))
    key = net.node(
        "Concat", "past_key_values.0.key", net.node("MatMul", x, net.weight(8, 8)), axis=1, out="present.0.key"
    )
    scores = net.node("MatMul", x, net.node("Transpose", key, perm=[0, 2, 1]))
    kept = net.node("Unsqueeze", net.node("Cast", "attention_mask", to=F), net.ints(1))
    weights = net.node("Softmax", net.node("Add", scores, net.node("Log", kept)), axis=-1)
    net.node("MatMul", net.node("MatMul", weights, key), net.weight(8, ROWS), out="logits")
    inputs = [
        ("input_ids", I64, ["batch_size", "sequence_length"]),
        ("attention_mask", I64, ["batch_size", "past_sequence_length + sequence_length"]),
        ("position_ids", I64, ["batch_size", "sequence_length"]),
        ("past_key_values.0.key", F, ["batch_size", "past_sequence_length", 8]),
    ]
    outputs = [("logits", F, ["batch_size", "sequence_length", ROWS]), ("present.0.key", F, ["batch_size", "all", 8])]
    return net.model(inputs, outputs, opset=17)
