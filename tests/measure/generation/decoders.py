"""Small causal decoders, as Transformers exports them."""

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from tests.builders import I64, F, Net

VOCABULARY, WIDTH = 40, 16


def causal(
    *, extra: tuple[tuple[str, int, list[object]], ...] = (), rows: int = VOCABULARY, places: int = 64
) -> ir.Model:
    """Return one layer of causal attention with a cache that grows by concatenation.

    Args:
        extra: further inputs, which nothing reads.
        rows: of the table of tokens.
        places: of the table of positions.
    """
    net = Net(11)
    x = net.node("Gather", net.weight(rows, WIDTH), "input_ids", axis=0)
    x = net.node("Add", x, net.node("Gather", net.weight(places, WIDTH), "position_ids", axis=0))
    kept = []
    for role in ("key", "value"):
        own = net.node("MatMul", x, net.weight(WIDTH, WIDTH))
        kept.append(net.node("Concat", f"past_key_values.0.{role}", own, axis=1, out=f"present.0.{role}"))
    scores = net.node("MatMul", x, net.node("Transpose", kept[0], perm=[0, 2, 1]))
    place = net.node("Sub", net.node("CumSum", "attention_mask", net.const(np.int64(1))), net.const(np.int64(1)))
    later = net.node(
        "Greater", net.node("Unsqueeze", place, net.ints(1)), net.node("Unsqueeze", "position_ids", net.ints(2))
    )
    bias = net.node("Where", later, net.const(np.float32(-1e9)), net.const(np.float32(0)))
    mixed = net.node("MatMul", net.node("Softmax", net.node("Add", scores, bias), axis=-1), kept[1])
    head = net.node("Tanh", net.node("MatMul", net.node("Add", x, mixed), net.weight(WIDTH, 64)))
    net.node("MatMul", head, net.const(net.rng.standard_normal((64, VOCABULARY)).astype(np.float32) / 3), out="logits")
    inputs = [
        ("input_ids", I64, ["batch_size", "sequence_length"]),
        ("attention_mask", I64, ["batch_size", "past_sequence_length + sequence_length"]),
        ("position_ids", I64, ["batch_size", "sequence_length"]),
        *((f"past_key_values.0.{r}", F, ["batch_size", "past_sequence_length", WIDTH]) for r in ("key", "value")),
        *extra,
    ]
    outputs = [
        ("logits", F, ["batch_size", "sequence_length", VOCABULARY]),
        *((f"present.0.{role}", F, ["batch_size", "total_sequence_length", WIDTH]) for role in ("key", "value")),
    ]
    return net.model(inputs, outputs, opset=17)


def whole(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return the inputs of a run over all tokens at once, with an empty cache."""
    count = len(tokens)
    empty = np.zeros((1, 0, WIDTH), np.float32)
    return {
        "input_ids": tokens[None],
        "attention_mask": np.ones((1, count), np.int64),
        "position_ids": np.arange(count)[None],
        "past_key_values.0.key": empty,
        "past_key_values.0.value": empty,
    }


def texts(count: int, length: int = 12) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, VOCABULARY, length) for i in range(count)]


HEADS, KV_HEADS, HEAD = 4, 2, 16


def grouped() -> ir.Model:
    """Return one layer of GroupQueryAttention, as onnxruntime-genai's builder writes it."""
    net, width = Net(13), HEADS * HEAD
    x = net.node("Gather", net.weight(VOCABULARY, width), "input_ids", axis=0)
    length = net.node("ReduceSum", "attention_mask", net.ints(1), keepdims=0)
    last = net.node("Cast", net.node("Sub", length, net.ints(1)), to=TensorProto.INT32)
    total = net.node(
        "Cast", net.node("Gather", net.node("Shape", "attention_mask"), net.const(np.int64(1))), to=TensorProto.INT32
    )
    parts = [net.node("MatMul", x, net.weight(width, count * HEAD)) for count in (HEADS, KV_HEADS, KV_HEADS)]
    cache = [f"past_key_values.0.{role}" for role in ("key", "value")]
    mixed, key, value = "mixed", "present.0.key", "present.0.value"
    numbers = {"domain": "com.microsoft", "num_heads": HEADS, "kv_num_heads": KV_HEADS}
    own, given = [*parts, *cache, last, total], [mixed, key, value]
    net.nodes.append(helper.make_node("GroupQueryAttention", own, given, name="attention", **numbers))
    x = net.node("Add", x, net.node("MatMul", mixed, net.weight(width, width)))
    net.node("MatMul", x, net.const(net.rng.standard_normal((width, VOCABULARY)).astype(np.float32) / 3), out="logits")
    shape = ["batch_size", KV_HEADS, "past_sequence_length", HEAD]
    inputs = [
        ("input_ids", I64, ["batch_size", "sequence_length"]),
        ("attention_mask", I64, ["batch_size", "total_sequence_length"]),
        *((name, F, shape) for name in cache),
    ]
    outputs = [
        ("logits", F, ["batch_size", "sequence_length", VOCABULARY]),
        *((name, F, ["batch_size", KV_HEADS, "total_sequence_length", HEAD]) for name in (key, value)),
    ]
    return net.model(inputs, outputs, opset=17, domains=[("com.microsoft", 1)])
