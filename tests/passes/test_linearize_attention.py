"""Linear attention is what its paper says, keys that are masked do not count, and short sequences stay."""

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import NativeError
from onnxopt.measure import verdict
from onnxopt.passes import linearize_attention
from onnxopt.passes.linearize_attention import LinearizeAttention
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.target import target_of
from tests import builders, numerics
from tests.passes.test_fuse_attention import HEADS, SIZE, TIME, WIDTH, attention, ops, reasons


def apply(model: ir.Model, **options) -> tuple[ir.Model, Step]:
    options = {"verify": False, **options}
    result = Pipeline((LinearizeAttention(**options),)).run(model, Context(target_of("x86-vnni")))
    return result.model, result.steps[0]


def expected(model: ir.Model, x: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return what the paper's formula gives, one query at a time."""
    weights = [value.const_value.numpy() for value in model.graph.initializers.values()]
    wq, wk, wv = (w for w in weights if w.shape == (WIDTH, WIDTH))
    out = next(w for w in weights if w.shape == (WIDTH, 3))
    phi = lambda a: np.where(a > 0, a + 1, np.exp(a))  # noqa: E731
    joined = np.zeros((len(x), TIME, WIDTH))
    for b in range(len(x)):
        for h in range(HEADS):
            q, k, v = ((x[b] @ w)[:, h * SIZE : (h + 1) * SIZE] for w in (wq, wk, wv))
            for i in range(TIME):
                likeness = kept[b] * np.array([phi(q[i]) @ phi(k[j]) for j in range(TIME)])
                joined[b, i, h * SIZE : (h + 1) * SIZE] = likeness @ v / likeness.sum()
    return joined @ out


def test_it_computes_the_formula() -> None:
    model = attention("padding")
    result, step = apply(model)
    assert step.edits
    assert "Softmax" not in ops(result)
    x = np.random.default_rng(0).standard_normal((2, TIME, WIDTH)).astype(np.float32)
    dropped = np.zeros((2, TIME), np.float32)
    dropped[1, -2:] = 1
    got = builders.run(result, {"x": x, "mask": dropped[:, None, None]})[0]
    np.testing.assert_allclose(got, expected(model, x, 1 - dropped), rtol=0, atol=numerics.EXACT_RELATIVE * 10)


def test_masks_of_queries_stay() -> None:
    model = attention("causal")
    result, step = apply(model)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert "its mask differs between queries" in reasons(step)


def test_only_the_layers_that_are_named() -> None:
    model = attention()
    softmax = next(node.name for node in model.graph if node.op_type == "Softmax")
    other = next(node.name for node in model.graph if node.op_type == "MatMul")
    assert not apply(model, layers=(other,))[1].edits
    assert [edit.target for edit in apply(model, layers=(softmax,))[1].edits] == [softmax]


def test_what_gets_slower_is_undone(monkeypatch) -> None:
    monkeypatch.setattr(linearize_attention, "time_share", lambda *_: (1.3, ""))
    monkeypatch.setattr(linearize_attention, "_LEAST_MACS", 0)
    model = attention()
    result, step = apply(model, verify=True)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert "undone: at this sequence length the model took 1.30 times the time" in reasons(step)
    monkeypatch.setattr(linearize_attention, "time_share", lambda *_: (0.5, ""))
    _, step = apply(model, verify=True)
    assert step.edits[-1].action == "measured time 50 % of the original"


def test_an_emulated_processor_is_not_believed(monkeypatch) -> None:
    def refuse(*_, **__):
        raise NativeError("ONX403", "latency is not measured under emulation", why="QEMU")

    monkeypatch.setattr(verdict, "measure_latency", refuse)
    monkeypatch.setattr(linearize_attention, "_LEAST_MACS", 0)
    _, step = apply(attention(), verify=True)
    assert step.edits
    assert "not verified to be faster: QEMU" in reasons(step)


def test_long_sequences_get_faster_and_short_ones_do_not() -> None:
    assert apply(attention("none", 768), verify=True)[1].edits
    _, step = apply(attention("none", 4), verify=True)
    assert not step.edits
    assert "so few MACs that the overhead of more nodes" in reasons(step)
