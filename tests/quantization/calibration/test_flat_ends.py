"""Ends of a range that no reader tells apart are cut; all others stay."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import signature_of
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.calibration import calibrate
from onnxopt.quantization.calibration.flat_ends import without_flat_ends
from onnxopt.quantization.calibration.histogram import LEVELS, Range
from onnxopt.samples import open_samples
from onnxopt.target import detect
from tests.builders import IMAGE, F, Net, Spec

A: Spec = ("a", F, [1, 8])
WIDE = Range(-24.0, 19.0)


def graph(*ops: tuple[str, tuple[str, ...], str], attrs: dict[str, float] | None = None) -> ir.Model:
    """Return a model of nodes `(operator, inputs, output)`, which read a value x."""
    net = Net(0)
    net.node("Neg", "a", out="x")
    for op, inputs, out in ops:
        known = [net.const(np.float32(name)) if name.replace(".", "").isdigit() else name for name in inputs]
        net.node(op, *known, out=out, **(attrs or {}))
    return net.model([A], [(ops[-1][2], F, [1, 8])], opset=24, ir_version=10)


def cut(model: ir.Model, known: Range = WIDE, levels: int = LEVELS) -> Range:
    return without_flat_ends(model, {"x": known}, levels)["x"]


SILU = (("Sigmoid", ("x",), "s"), ("Mul", ("x", "s"), "y"))
HARD = (("HardSigmoid", ("x",), "s"), ("Mul", ("s", "x"), "y"))


@pytest.mark.parametrize(
    ("ops", "low", "high"),
    [
        (SILU, -5.76, 19.0),
        ((("HardSwish", ("x",), "y"),), -3.0, 19.0),
        ((("Sigmoid", ("x",), "y"),), -6.93, 6.93),
        ((("Tanh", ("x",), "y"),), -3.46, 3.46),
        ((("Gelu", ("x",), "y"),), -2.4, 19.0),
        ((("Mish", ("x",), "y"),), -5.76, 19.0),
        ((("Softplus", ("x",), "y"),), -3.97, 19.0),
        ((("Swish", ("x",), "y"),), -5.76, 19.0),
        ((("Div", ("x", "1.4142135"), "d"), ("Erf", ("d",), "y")), -24.0, 19.0),  # a longer way is not followed
        (
            (("Erf", ("x",), "e"), ("Add", ("e", "1"), "p"), ("Mul", ("p", "x"), "q"), ("Mul", ("q", "0.5"), "y")),
            -1.65,
            19,
        ),
        ((("HardSwish", ("x",), "h"), ("Sigmoid", ("x",), "s"), ("Add", ("h", "s"), "y")), -4.0, 19.0),
    ],
)
def test_a_range_ends_where_its_readers_are_flat(ops: tuple, low: float, high: float) -> None:  # type: ignore[type-arg]
    found = cut(graph(*ops))
    assert found.low == pytest.approx(low, abs=0.1)
    assert found.high == pytest.approx(high, abs=0.1)


def test_slope_and_offset_of_a_hard_sigmoid_count() -> None:
    found = cut(graph(*HARD, attrs=None))
    assert found.low == pytest.approx(-2.45, abs=0.06)  # slope 0.2, offset 0.5
    steeper = graph(("HardSigmoid", ("x",), "y"), attrs={"alpha": 1.0, "beta": 0.0})
    assert (cut(steeper).low, cut(steeper).high) == pytest.approx((0.0, 1.0), abs=0.02)


@pytest.mark.parametrize(
    "ops",
    [
        (*SILU[:1], ("Add", ("x", "s"), "y")),  # the value itself goes on
        (*SILU, ("Relu", ("x",), "z"), ("Add", ("y", "z"), "w")),
        (*SILU[:1], ("MatMul", ("x", "s"), "y")),
        (("Sigmoid", ("x",), "s"), ("Mul", ("s", "a"), "y"), ("Sub", ("x", "y"), "z")),
        (("Tanh", ("x",), "s"), ("Div", ("s", "x"), "y")),
        (("Sigmoid", ("x",), "s"), ("Div", ("s", "0"), "y")),  # infinite
    ],
)
def test_a_value_that_others_read_keeps_its_range(ops: tuple) -> None:  # type: ignore[type-arg]
    found = cut(graph(*ops))
    assert (found.low, found.high) == pytest.approx((WIDE.low, WIDE.high), abs=0.1)


def test_an_output_keeps_its_range() -> None:
    net = Net(0)
    net.node("Neg", "a", out="x")
    net.node("HardSwish", "x", out="y")
    assert cut(net.model([A], [("x", F, [1, 8]), ("y", F, [1, 8])])) == WIDE


def test_channels_of_their_own_scales_keep_the_range() -> None:
    net = Net(0)
    net.node("Neg", "a", out="x")
    net.node("Sigmoid", net.node("Mul", "x", net.const(np.linspace(0.1, 2, 8, dtype=np.float32))), out="s")
    net.node("Mul", "x", "s", out="y")
    assert cut(net.model([A], [("y", F, [1, 8])])) == WIDE


def test_a_narrow_range_keeps_its_ends() -> None:
    narrow = Range(-2.0, 1.0)
    found = cut(graph(*SILU), narrow)
    assert (found.low, found.high) == pytest.approx((narrow.low, narrow.high), abs=0.03)


def test_more_levels_cut_less() -> None:
    eight, sixteen = cut(graph(*SILU)), cut(graph(*SILU), levels=1 << 16)
    assert sixteen.low < 2 * eight.low


@pytest.mark.parametrize("seed", range(6))
def test_no_result_moves_by_more_than_a_quarter_of_a_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = Range(-float(rng.uniform(0, 40)), float(rng.uniform(0, 40)))
    model = graph(*(SILU, HARD, (("Gelu", ("x",), "y"),))[seed % 3])
    found = cut(model, known)
    session, values = Session(model, Runtime()), rng.uniform(known.low, known.high, (4096, 8)).astype(np.float32)
    clipped = np.clip(values, found.low, found.high)
    whole, less = (np.concatenate([session.run({"a": -row[None]})[0] for row in some]) for some in (values, clipped))
    level = (max(whole.max(), 0) - min(whole.min(), 0)) / (LEVELS - 1)
    assert np.abs(whole - less).max() <= 0.26 * level


def test_a_quantized_silu_with_a_long_tail_is_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(3)
    weight, bias = 2 * net.rng.standard_normal((8, 3, 3, 3)), net.rng.standard_normal(8) - 3
    parameters = (net.const(some.astype(np.float32)) for some in (weight, bias))
    before = net.node("Conv", "x", *parameters, pads=[1] * 4, kernel_shape=[3, 3])
    after = net.node("Mul", before, net.node("Sigmoid", before))
    net.node("Conv", after, net.weight(4, 8, 1, 1), out="y")
    model = net.model([IMAGE], [("y", F, ["batch", 4, 8, 8])])
    images = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    samples = open_samples({"x": images}, signature_of(model))
    (wanted,) = Session(model, Runtime()).run({"x": images})

    def noise() -> float:
        context = Context(detect(), calibration=samples)
        made = Pipeline((QuantizeStatic(method="minmax"),)).run(model, context)
        assert made.steps[-1].edits
        return float(np.square(Session(made.model, Runtime()).run({"x": images})[0] - wanted).mean())

    closer = noise()
    monkeypatch.setattr(calibrate, "without_flat_ends", lambda model, ranges, levels: ranges)
    assert closer < 0.9 * noise()
