"""GELU by tanh has the values of its formula, and no other node changes."""

import numpy as np
import onnx_ir as ir

from onnxopt.catalog import parse
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from tests import builders
from tests.builders import F, Net

POINTS = np.linspace(-8, 8, 4001, dtype=np.float32)[None]


def model(**attributes: object) -> ir.Model:
    net = Net(1)
    net.node("Gelu", net.node("Tanh", net.node("Gelu", "x", name="first", **attributes)), out="y", name="last")
    return net.model([("x", F, ["n", "m"])], [("y", F, ["n", "m"])], opset=20)


def applied(source: ir.Model, spec: str = "approximate-gelu") -> Optimized:
    return Pipeline(parse(spec)).run(source, Context(target_of("x86-vnni")))


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def test_the_values_are_those_of_the_formula() -> None:
    made = applied(model())
    assert [edit.target for edit in made.steps[0].edits] == ["first", "last"]
    (found,) = builders.run(made.model, {"x": POINTS})
    np.testing.assert_allclose(found, gelu(np.tanh(gelu(POINTS.astype(np.float64)))), atol=1e-6)
    (exact,) = builders.run(model(), {"x": POINTS})
    assert 0 < np.abs(found - exact).max() < 1e-3


def test_what_is_by_tanh_or_excluded_stays() -> None:
    step = applied(model(approximate="tanh"), "approximate-gelu{exclude=[last]}").steps[0]
    assert not step.edits
    assert [(skip.target, skip.reason) for skip in step.skipped] == [("last", "excluded by name")]


def test_parts_are_fused_before() -> None:
    source = builders.BUILDERS["transformer_17"]()
    assert [skip.reason for skip in applied(source).steps[0].skipped] == ["it has no exact GELU in one node"]
    assert applied(source, "simplify,approximate-gelu").steps[1].edits
