"""A folder of encoder and decoder as Optimum writes it, with random weights."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.model_file import save
from tests.builders import I64, F, Net

WIDTH, ROWS, HIDDEN = 32, 40, 96
_B, _E = "batch_size", "encoder_sequence_length"


def encoder() -> ir.Model:
    net = Net(1)
    x = net.node("Gather", net.weight(ROWS, WIDTH), "input_ids", axis=0)
    x = net.node("Mul", x, net.node("Unsqueeze", net.node("Cast", "attention_mask", to=F), net.ints(-1)))
    x = net.node("Tanh", net.node("MatMul", x, net.weight(WIDTH, HIDDEN)))
    net.node("MatMul", x, net.weight(HIDDEN, WIDTH), out="last_hidden_state")
    inputs = [(name, I64, [_B, _E]) for name in ("input_ids", "attention_mask")]
    return net.model(inputs, [("last_hidden_state", F, [_B, _E, WIDTH])], opset=17)


def decoder(*, past: bool) -> ir.Model:
    """Return the decoder of the first token, or that of later ones; both have the same weights."""
    net = Net(2)
    table, query, key, value, other_key, other_value, up, down, head = (
        net.weight(*shape)
        for shape in ((ROWS, WIDTH), *((WIDTH, WIDTH),) * 5, (WIDTH, HIDDEN), (HIDDEN, WIDTH), (WIDTH, ROWS))
    )
    x = net.node("Gather", table, "input_ids", axis=0)
    own = []
    for role, weight in (("key", key), ("value", value)):
        part = net.node("MatMul", x, weight, out="" if past else f"present.0.decoder.{role}")
        if past:
            part = net.node(
                "Concat", f"past_key_values.0.decoder.{role}", part, axis=1, out=f"present.0.decoder.{role}"
            )
        own.append(part)
    x = net.node("Add", x, _attention(net, net.node("MatMul", x, query), *own))
    if past:
        cross = ["past_key_values.0.encoder.key", "past_key_values.0.encoder.value"]
    else:
        cross = [
            net.node("MatMul", "encoder_hidden_states", weight, out=f"present.0.encoder.{role}")
            for role, weight in (("key", other_key), ("value", other_value))
        ]
    x = net.node("Add", x, _attention(net, x, *cross, mask="encoder_attention_mask"))
    x = net.node("MatMul", net.node("Tanh", net.node("MatMul", x, up)), down)
    net.node("MatMul", x, head, out="logits")
    steps = "decoder_sequence_length"
    inputs = [("input_ids", I64, [_B, steps]), ("encoder_attention_mask", I64, [_B, _E])]
    outputs = [("logits", F, [_B, steps, ROWS])]
    grown = "past_decoder_sequence_length + 1" if past else steps
    outputs += [(f"present.0.decoder.{role}", F, [_B, grown, WIDTH]) for role in ("key", "value")]
    if past:
        sizes = {"decoder": "past_decoder_sequence_length", "encoder": _E}
        inputs += [(f"past_key_values.0.{kind}.{role}", F, [_B, sizes[kind], WIDTH]) for kind in sizes
                   for role in ("key", "value")]  # fmt: skip
    else:
        inputs.append(("encoder_hidden_states", F, [_B, _E, WIDTH]))
        outputs += [(f"present.0.encoder.{role}", F, [_B, _E, WIDTH]) for role in ("key", "value")]
    return net.model(inputs, outputs, opset=17)


def _attention(net: Net, query: str, key: str, value: str, mask: str = "") -> str:
    scores = net.node("MatMul", query, net.node("Transpose", key, perm=[0, 2, 1]))
    if mask:
        kept = net.node("Unsqueeze", net.node("Cast", mask, to=F), net.ints(1))
        scores = net.node("Add", scores, net.node("Mul", net.node("Sub", kept, net.const(np.float32(1))),
                                                  net.const(np.float32(1e9))))  # fmt: skip
    return net.node("MatMul", net.node("Softmax", scores, axis=-1), value)


def folder_of(place: Path) -> Path:
    """Write the folder; return it."""
    (place / "onnx").mkdir(parents=True)
    save(encoder(), place / "onnx" / "encoder_model.onnx")
    save(decoder(past=False), place / "onnx" / "decoder_model.onnx")
    save(decoder(past=True), place / "onnx" / "decoder_with_past_model.onnx")
    (place / "config.json").write_text(json.dumps({"decoder_start_token_id": 3, "eos_token_id": 39}))
    (place / "tokenizer.json").write_text(json.dumps({"vocab": [f"w{i}" for i in range(ROWS)]}))
    return place


def sentences(count: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(3).integers(0, ROWS, (count, 6))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
