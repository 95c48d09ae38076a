"""Small models that keep states, whose steps can be worked out by hand."""

import numpy as np
import onnx_ir as ir

from tests.builders import I64, F, Net


def voice_detector(*, window: int | None = 160, runs_at: int | None = None) -> ir.Model:
    """Return a detector of loudness: state' = state / 2 + mean |wave| * 16000 / sr, probability = sigmoid(mean).

    With `runs_at` it declares any window and fails at others, as published detectors do.
    """
    net = Net(0)
    wave = "input" if runs_at is None else net.node("Reshape", "input", net.ints(1, runs_at))
    loud = net.node("ReduceMean", net.node("Abs", wave), axes=[1], keepdims=1)
    loud = net.node(
        "Div", net.node("Mul", loud, net.const(np.array([16000], np.float32))), net.node("Cast", "sr", to=F)
    )
    half = net.node("Mul", "state", net.const(np.array([0.5], np.float32)))
    kept = net.node("Add", half, net.node("Unsqueeze", loud, net.ints(0)), out="stateN")
    net.node("Sigmoid", net.node("ReduceMean", kept, axes=[0, 2], keepdims=0), out="probability")
    return net.model(
        [("input", F, ["batch", window or "samples"]), ("state", F, [2, "batch", 4]), ("sr", I64, [])],
        [("probability", F, ["batch"]), ("stateN", F, [2, "batch", 4])],
        opset=13,
    )


def recurrent(initial: str = "h", final: str = "hn") -> ir.Model:
    """Return h' = h + x, with a batch axis in front of both."""
    net = Net(0)
    net.node("Add", initial, "x", out=final)
    net.node("Relu", final, out="y")
    return net.model([("x", F, ["n", 3]), (initial, F, ["n", 3])], [("y", F, ["n", 3]), (final, F, ["n", 3])])


def decoder() -> ir.Model:
    """Return a decoder whose cache is the embedding of every token it has read; the mask covers them all."""
    net = Net(0)
    rows = net.node("Gather", net.weight(16, 2), "input_ids")
    present = net.node("Concat", "past_key_values.0.key", rows, axis=1, out="present.0.key")
    mask = net.node("Unsqueeze", net.node("Cast", "attention_mask", to=F), net.ints(2))
    net.node("ReduceSum", net.node("Mul", present, mask), net.ints(1), keepdims=0, out="logits")
    past, total = ["batch", "past_sequence_length", 2], ["batch", "total_sequence_length", 2]
    inputs = [("input_ids", I64, ["batch", "sequence"]), ("attention_mask", I64, ["batch", "total_sequence_length"])]
    return net.model(
        [*inputs, ("past_key_values.0.key", F, past)], [("logits", F, ["batch", 2]), ("present.0.key", F, total)]
    )
