"""Detection tails: what decodes, joins and chooses boxes stays in float, and nothing of the network with it."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization.placement.tails import REASON, detection_tail, joined_heads
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net

CELLS = 64
DECODED = {"center", "scaled", "sigmoid", "transposed"}
INT64 = 7


def backbone(net: Net) -> str:
    stem = net.node("Relu", net.conv("x", 3, 8, name="stem"), name="stem_relu")
    return str(net.node("Relu", net.node("Add", net.conv(stem, 8, 8, name="inner"), stem, name="sum"), name="sum_relu"))


def detector(choice: str) -> ir.Model:
    """Return a network of one scale with boxes in pixels, scores, and a choice among them."""
    net = Net(3)
    features = backbone(net)
    boxes = net.node("Reshape", net.conv(features, 8, 4, name="box_head"), net.ints(1, 4, CELLS))
    centers = net.node("Add", boxes, net.const(np.arange(CELLS, dtype=np.float32)[None, None]), name="center")
    boxes = net.node("Mul", centers, net.const(np.float32(32)), name="scaled")
    scores = net.node("Reshape", net.conv(features, 8, 4, name="score_head"), net.ints(1, 4, CELLS))
    scores = net.node("Sigmoid", scores, name="sigmoid")
    boxes = net.node("Transpose", boxes, perm=[0, 2, 1], name="transposed")
    if choice == "NonMaxSuppression":
        limits = (net.const(np.int64(5)), net.const(np.float32(0.5)), net.const(np.float32(0.1)))
        net.node("NonMaxSuppression", boxes, scores, *limits, name="choice", out="y")
        return net.model([("x", F, [1, 3, 8, 8])], [("y", INT64, ["n", 3])], opset=13)
    best, _ = net.node("TopK", net.node("ReduceMax", scores, axes=[1], keepdims=0), net.ints(5), outs=2, name="choice")
    joined = net.node("Concat", net.node("Flatten", boxes, axis=1), best, axis=1, name="join")
    net.node("Identity", joined, out="y", name="last")
    return net.model([("x", F, [1, 3, 8, 8])], [("y", F, [1, 4 * CELLS + 5])], opset=13)


def quantized(model: ir.Model) -> Optimized:
    context = Context(target_of("x86-vnni"), builders.samples_of(model, 16))
    return Pipeline(parse("quantize-static")).run(model, context)


def test_what_leads_to_non_maximum_suppression_is_the_tail() -> None:
    model = detector("NonMaxSuppression")
    tail = set(detection_tail(model))
    assert tail >= {"choice", *DECODED}
    assert not tail & {"stem", "stem_relu", "inner", "sum", "sum_relu", "box_head", "score_head"}


def test_what_topk_gives_is_the_tail_too() -> None:
    assert set(detection_tail(detector("TopK"))) >= {"choice", "sigmoid", "join", "last"}


@pytest.mark.parametrize("choice", ["NonMaxSuppression", "TopK"])
def test_a_tail_is_never_quantized_and_its_layers_are(choice: str) -> None:
    model = detector(choice)
    result = quantized(model)
    tail = set(detection_tail(model))
    names = {node.name: node for node in result.model.graph}
    for name in tail:
        read = [v.producer() for v in names[name].inputs if v is not None]
        own = [n for n in read if n is not None and n.op_type == "DequantizeLinear"]
        written = [use.node.op_type for v in names[name].outputs for use in v.uses()]
        assert "QuantizeLinear" not in written
        assert not own or names[name].op_type in ("Reshape", "Sigmoid", "Add")  # what reads the heads
    assert {"stem", "inner", "box_head", "score_head"} <= {e.target for e in result.steps[0].edits}
    said = {s.target for s in result.steps[0].skipped if s.reason == REASON or "ranges differ" in s.reason}
    assert said >= tail
    assert said - tail <= DECODED | {n for n in names if n and n.startswith(("Reshape", "Flatten"))}


def test_boxes_in_a_tail_are_closer_than_their_scale_would_allow() -> None:
    model = detector("TopK")
    before, after = (
        np.concatenate([builders.run(m, dict(f))[0] for f in builders.samples_of(model, 16)])
        for m in (model, quantized(model).model)
    )
    # 63 * 32 pixels in 256 levels are 8 pixels for a step; what the heads lose is far below.
    assert np.abs(before - after).max() < 4
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB


def test_layers_behind_a_choice_are_no_tail() -> None:
    net = Net(4)
    features = backbone(net)
    flat = net.node("Reshape", features, net.ints(1, 8, CELLS))
    best, _ = net.node("TopK", flat, net.ints(4), outs=2, name="proposals")
    scaled = net.node("Mul", best, net.const(np.float32(2)), name="scaled")
    net.node("MatMul", net.node("Relu", net.node("MatMul", scaled, net.weight(4, 8), name="second")), net.weight(8, 4))
    last = net.nodes[-1]
    last.output[0] = "y"
    model = net.model([("x", F, [1, 3, 8, 8])], [("y", F, [1, 8, 4])], opset=13)
    assert set(detection_tail(model)) >= {"proposals", "scaled"}
    assert "second" not in detection_tail(model)


def test_a_network_without_a_choice_has_no_tail() -> None:
    for name in ("residual_cnn", "transformer_17", "two_outputs"):
        assert detection_tail(builders.BUILDERS[name]()) == ()


def test_what_joins_several_layers_into_an_output_is_a_head_and_its_decoding_the_tail() -> None:
    """As in detectors of several scales without a choice in the graph."""
    net = Net(7)
    features = backbone(net)
    parts = [net.node("Reshape", net.conv(features, 8, 4, name=f"head{i}"), net.ints(1, CELLS, 4)) for i in (1, 2)]
    joined = net.node("Concat", *parts, axis=1, name="join")
    net.node("Mul", joined, net.const(np.float32(2)), out="y", name="decoded")
    model = net.model([("x", F, [1, 3, 8, 8])], [("y", F, [1, 2 * CELLS, 4])], opset=13)
    assert joined_heads(model) == ("join",)
    assert {"join", "decoded"} <= set(detection_tail(model, joined_heads(model)))
    result = quantized(model)
    assert {"head1", "head2", "inner"} <= {e.target for e in result.steps[0].edits}
    assert {"join", "decoded"} <= {s.target for s in result.steps[0].skipped if s.reason == REASON}
    assert not {"join", "decoded"} & {e.target for e in result.steps[0].edits}


def test_a_join_that_a_layer_reads_or_of_one_layer_alone_is_no_head() -> None:
    net = Net(8)
    features = backbone(net)
    inner = net.node("Concat", features, net.conv(features, 8, 8, name="second"), axis=1, name="inner_join")
    last = net.conv(inner, 16, 4, name="last")
    net.node("Concat", last, net.node("Relu", last), axis=1, out="y", name="twice")
    model = net.model([("x", F, [1, 3, 8, 8])], [("y", F, [1, 8, 8, 8])], opset=13)
    assert joined_heads(model) == ()


def test_a_join_of_boxes_and_scores_into_an_output_takes_its_decoding_along() -> None:
    net = Net(6)
    features = net.node("Relu", net.node("MatMul", "x", net.weight(8, 16), name="body"), name="body_relu")
    boxes = net.node("MatMul", features, net.weight(16, 4), name="box_head")
    boxes = net.node("Mul", boxes, net.const(np.float32(300)), name="decode")
    scores = net.node("Sigmoid", net.node("MatMul", features, net.weight(16, 4), name="score_head"), name="scores")
    net.node("Concat", boxes, scores, axis=1, name="join", out="y")
    model = net.model([builders.ROWS], [("y", F, ["batch", 8])], opset=13)
    assert set(detection_tail(model, ["join"])) == {"decode", "scores", "join"}
    targets = {e.target for e in quantized(model).steps[0].edits}
    assert {"body", "box_head", "score_head"} <= targets
    assert not {"decode", "scores", "join"} & targets
