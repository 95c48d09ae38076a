"""GELUs in several operators become one, with the same outputs, whatever the order of their operators."""

import numpy as np
import pytest

from onnxopt.errors import ModelError
from onnxopt.graph.pointwise.gelu import OPSET, gelu, write_gelus
from onnxopt.model_file import opset_of, upgrade_opset
from onnxopt.passes import simplify
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context
from onnxopt.target import target_of
from tests.graph.scales.nets import net, ops, same_outputs

RNG = np.random.default_rng(0)
FEED = (4 * RNG.standard_normal((2, 4, 6, 6))).astype(np.float32)
CONSTANTS = {
    "half": np.array(0.5),
    "one": np.array([1.0]),
    "three": np.array(3.0),
    "small": np.array(0.044715),
    "root": np.array(np.sqrt(2 / np.pi)),
    "twice": np.array(2 * np.sqrt(2 / np.pi)),
    "both": np.array(0.044715 * np.sqrt(2 / np.pi)),
    "shift": np.ones((1, 4, 1, 1)),
}
JAX = (
    "a = Mul(small, x) b = Mul(x, a) c = Mul(x, b) d = Add(x, c) e = Mul(root, d) "
    "t = Tanh(e) f = Add(one, t) g = Mul(half, f) y = Mul(x, g)"
)
FORMS = [
    JAX,
    "c = Pow(x, three) a = Mul(c, small) d = Add(x, a) e = Mul(d, root) t = Tanh(e) f = Add(t, one) "
    "h = Mul(x, half) y = Mul(h, f)",
    "s = Mul(x, x) a = Mul(s, small) b = Add(a, one) c = Mul(b, root) e = Mul(x, c) t = Tanh(e) f = Add(t, one) "
    "g = Mul(f, x) y = Mul(g, half)",
    "s = Mul(x, x) a = Mul(s, both) b = Add(root, a) e = Mul(b, x) t = Tanh(e) f = Add(t, one) g = Mul(x, f) "
    "two = Add(one, one) y = Div(g, two)",
]


def raised(body: str):  # type: ignore[no-untyped-def]
    return upgrade_opset(net(body, CONSTANTS), 20)


@pytest.mark.parametrize("body", FORMS)
def test_a_gelu_is_one_operator_in_every_order(body: str) -> None:
    before = raised(body)
    after = before.clone()
    assert len(write_gelus(after)) == 1
    assert ops(after) == {"Gelu": 1}
    same_outputs(before, after, FEED)


@pytest.mark.parametrize(
    "body",
    [
        JAX.replace("Mul(half, f)", "Mul(root, f)"),
        JAX.replace("d = Add(x, c)", "d = Sub(x, c)"),
        JAX.replace("Mul(small, x)", "Mul(half, x)"),
        JAX.replace("f = Add(one, t)", "f = Add(shift, t)"),
        "e = Mul(twice, x) t = Tanh(e) f = Add(one, t) g = Mul(half, f) y = Mul(x, g)",
    ],
)
def test_another_expression_stays(body: str) -> None:
    after = raised(body)
    before = ops(after)
    assert write_gelus(after) == []
    assert ops(after) == before


def test_values_of_a_gelu_that_others_read_stay() -> None:
    before = raised(JAX.replace("y = Mul(x, g)", "h = Mul(x, g) y = Add(h, d)"))
    after = before.clone()
    assert len(write_gelus(after)) == 1
    assert ops(after)["Tanh"] == 0
    assert ops(after)["Gelu"] == 1
    same_outputs(before, after, FEED)


def test_a_shift_before_is_no_part_of_it() -> None:
    before = raised(JAX.replace("x", "v").replace("a = Mul(small, v)", "v = Add(x, shift) a = Mul(small, v)"))
    after = before.clone()
    assert len(write_gelus(after)) == 1
    assert ops(after) == {"Add": 1, "Gelu": 1}
    same_outputs(before, after, FEED)


def test_the_definition_is_that_of_the_paper() -> None:
    """GELU(1) by the tanh approximation is 0.841192, and it is odd around x / 2."""
    assert gelu(np.array([1.0]))[0] == pytest.approx(0.841192, abs=1e-6)
    x = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(gelu(x) - gelu(-x), x, atol=1e-12)


@pytest.mark.parametrize("body", FORMS)
def test_simplify_raises_the_opset_for_it(body: str) -> None:
    before = net(body, CONSTANTS)
    written = Simplify(fuse=False).apply(before, Context(target_of("x86-vnni"), None))
    assert ops(written.model) == {"Gelu": 1}
    assert opset_of(written.model) == OPSET
    assert opset_of(before) == 13
    assert any("GELUs as one operator: 1" in edit.action for edit in written.edits)
    same_outputs(before, written.model, FEED)


def test_a_model_whose_opset_cannot_be_raised_keeps_its_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("ONX305", "the opset cannot be raised", why="", hint="")

    monkeypatch.setattr(simplify, "upgrade_opset", refuse)
    before = net(JAX, CONSTANTS)
    assert ops(Simplify(fuse=False).apply(before, Context(target_of("x86-vnni"), None)).model)["Tanh"] == 1
