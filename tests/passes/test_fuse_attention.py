"""Attention of many nodes becomes one, whoever wrote it, and stays what it was where that cannot be."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.errors import UsageError
from onnxopt.passes import fuse_attention
from onnxopt.passes.fuse_attention import FuseAttention
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
BUNDLED = Path(__file__).parents[2] / "models"
TRANSFORMERS = sorted(p for kind in ("transformer", "vit", "tenc") for p in FIXTURES.glob(f"*{kind}*.onnx"))
TIME, HEADS, SIZE = 6, 2, 4
WIDTH = HEADS * SIZE


def apply(model: ir.Model, **options) -> tuple[ir.Model, Step]:
    options = {"verify": False, **options}
    result = Pipeline((FuseAttention(**options),)).run(model, Context(target_of("x86-vnni")))
    return result.model, result.steps[0]


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def reasons(step: Step) -> str:
    return " ".join(skip.reason for skip in step.skipped)


def attention(mask: str = "none", time: int | str = TIME, opset: int = 17, kv_heads: int = HEADS) -> ir.Model:
    """Return self-attention as torch writes it; `mask` says which of its scores count."""
    net = Net(11)

    def heads(name: str, count: int, *perm: int) -> str:
        flat = net.node("MatMul", "x", net.weight(WIDTH, count * SIZE), out=name)
        apart = net.node("Reshape", flat, net.ints(0, 0, count, SIZE))
        turned = net.node("Transpose", apart, perm=list(perm))
        if count == HEADS:
            return turned
        times = net.ints(1, HEADS // count, 1, 1)
        return net.node("Tile", turned, times)

    q, k, v = (heads("q", HEADS, 0, 2, 1, 3), heads("k", kv_heads, 0, 2, 3, 1), heads("v", kv_heads, 0, 2, 1, 3))
    scores = net.node("Mul", net.node("MatMul", q, k), net.const(np.float32(SIZE**-0.5)))
    inputs = [("x", F, ["batch", time, WIDTH])]
    if mask == "causal":
        scores = net.node("Add", scores, net.const(np.triu(np.full((TIME, TIME), -1e9, np.float32), 1)))
    elif mask == "padding":
        inputs.append(("mask", F, ["batch", 1, 1, time]))
        scores = net.node("Add", scores, net.node("Mul", "mask", net.const(np.float32(-10000))))
    elif mask == "kept":
        keep = net.const(np.tril(np.ones((1, 1, TIME, TIME), bool)))
        scores = net.node("Where", keep, scores, net.const(np.float32(-np.inf)))
    elif mask == "scaled after":
        scores = net.node("Add", scores, net.const(np.triu(np.full((TIME, TIME), -1e9, np.float32), 1)))
        scores = net.node("Mul", scores, net.const(np.float32(2)))
    weights = net.node("Softmax", scores, axis=-1, out="weights", name="softmax")
    joined = net.node("Transpose", net.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    net.node("MatMul", net.node("Reshape", joined, net.ints(0, 0, WIDTH)), net.weight(WIDTH, 3), out="y")
    return net.model(inputs, [("y", F, ["batch", time, 3])], opset=opset)


@pytest.mark.parametrize("form", ["portable", "runtime"])
@pytest.mark.parametrize(
    ("mask", "time"),
    [*((mask, TIME) for mask in ("none", "causal", "padding", "kept")), ("none", "time"), ("padding", "time")],
)
def test_one_node_computes_the_same(form: str, mask: str, time: int | str) -> None:
    model = attention(mask, time)
    result, step = apply(model, form=form)
    assert ops(result).count(fuse_attention._NODES[form]) == 1
    assert "Softmax" not in ops(result)
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE
    feeds = builders.feeds_of(model)
    for optimized in (False, True):
        expected, got = (builders.run(m, feeds, optimized)[0] for m in (model, result))
        np.testing.assert_allclose(got, expected, rtol=0, atol=numerics.EXACT_RELATIVE * np.abs(expected).max())


@pytest.mark.parametrize("form", ["portable", "runtime"])
@pytest.mark.parametrize("path", [*TRANSFORMERS, BUNDLED / "digits_vit.onnx"], ids=lambda p: p.stem)
def test_every_exporters_attention_is_fused(path: Path, form: str) -> None:
    model = model_file.load(path)
    before = ops(model).count("Softmax")
    result, step = apply(model, form=form)
    assert ops(result).count(fuse_attention._NODES[form]) == before > 0
    assert "Softmax" not in ops(result)
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE


def test_the_opset_is_raised_for_the_standards_node_only() -> None:
    assert apply(attention(), form="portable")[0].opset_imports[""] == 23
    result, _ = apply(attention(), form="runtime")
    assert result.opset_imports == {"": 17, "com.microsoft": 1}


def test_heads_that_share_keys_are_for_the_standards_node() -> None:
    result, step = apply(attention(kv_heads=1), form="portable")
    node = next(node for node in result.graph if node.op_type == "Attention")
    assert node.attributes["kv_num_heads"].as_int() == 1
    assert step.edits
    _, step = apply(attention(kv_heads=1), form="runtime")
    assert not step.edits
    assert "several heads share keys" in reasons(step)


def test_what_is_not_understood_stays_and_says_why() -> None:
    model = attention("scaled after")
    result, step = apply(model)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert "scaled after they are masked" in reasons(step)


def test_weights_that_are_an_output_stay() -> None:
    model = attention()
    weights = next(v for node in model.graph for v in node.outputs if v.name == "weights")
    weights.type, weights.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", HEADS, TIME, TIME])
    model.graph.outputs.append(weights)
    _, step = apply(model)
    assert not step.edits
    assert "its weights are read elsewhere too" in reasons(step)


def test_excluded_ones_stay() -> None:
    _, step = apply(attention(), exclude=("softmax",))
    assert not step.edits
    assert "excluded by name" in reasons(step)
    with pytest.raises(UsageError, match="ONX102"):
        apply(attention(), exclude=("nothing",))


def test_the_faster_form_is_kept(monkeypatch) -> None:
    shares = {"portable": 0.9, "runtime": 0.8}
    monkeypatch.setattr(fuse_attention, "time_shares", lambda *_: (shares, ""))
    monkeypatch.setattr(fuse_attention, "_LEAST_MACS", 0)
    result, step = apply(attention(), verify=True)
    assert "MultiHeadAttention" in ops(result)
    assert step.edits[-1].action == "measured time 80 % of the original"
    shares.update(portable=1.2, runtime=1.1)
    model = attention()
    result, step = apply(model, verify=True)
    assert not step.edits
    assert "undone: with MultiHeadAttention the model took 1.10 times the time" in reasons(step)


def test_a_wrong_node_is_not_kept(monkeypatch) -> None:
    wrong = {"portable": lambda write, found, flat: flat.value, "runtime": lambda write, found, flat: flat.query}
    monkeypatch.setattr(fuse_attention, "_CORES", wrong)
    _, step = apply(attention())
    assert not step.edits
    assert reasons(step).count("its outputs differ") == 2
