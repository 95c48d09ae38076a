"""Scalings and shifts go into the layers beside them, with the same outputs."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.graph.scales.fold import fold_scales
from tests.graph.scales.nets import net, ops, same_outputs

RNG = np.random.default_rng(0)
FEED = RNG.standard_normal((2, 4, 6, 6)).astype(np.float32)
WEIGHTS = {
    "w": RNG.standard_normal((4, 4, 3, 3)),
    "w1": RNG.standard_normal((6, 4, 1, 1)),
    "w2": RNG.standard_normal((8, 2, 1, 1)),
    "wt": RNG.standard_normal((4, 3, 2, 2)),
    "b": RNG.standard_normal(4),
    "s": np.array([1.7]),
    "t": np.array(-0.4),
    "none": np.array([0.0]),
    "channels": RNG.standard_normal((1, 4, 1, 1)),
    "three_axes": RNG.standard_normal((4, 1, 1)),
    "columns": RNG.standard_normal(6),
    "map": RNG.standard_normal((1, 1, 6, 6)),
}
PADDED = "Conv<pads = [1, 1, 1, 1]>"


@pytest.mark.parametrize(
    ("body", "layer"),
    [
        (f"c = {PADDED}(x, w) y = Mul(c, s)", "Conv"),
        (f"c = {PADDED}(x, w, b) y = Div(c, s)", "Conv"),
        (f"c = {PADDED}(x, w, b) m = Mul(s, c) y = Add(m, t)", "Conv"),
        (f"c = {PADDED}(x, w) m = Sub(c, channels) y = Mul(m, three_axes)", "Conv"),
        (f"c = {PADDED}(x, w, b) y = Sub(t, c)", "Conv"),
        ("c = ConvTranspose<strides = [2, 2]>(x, wt) m = Mul(c, s) y = Sub(m, t)", "ConvTranspose"),
        ("c = Conv<group = 2>(x, w2) m = Mul(c, eight) y = Add(m, t)", "Conv"),
        ("c = ConvTranspose<group = 2>(x, wt) m = Mul(c, six) y = Add(m, t)", "ConvTranspose"),
    ],
)
def test_a_layer_takes_what_follows_it(body: str, layer: str) -> None:
    more = {"eight": RNG.standard_normal((8, 1, 1)), "six": RNG.standard_normal((6, 1, 1))}
    before = net(body, {**WEIGHTS, **more})
    after = before.clone()
    assert len(fold_scales(after)) == len(before.graph) - 1
    assert ops(after) == {layer: 1}
    assert after.graph.outputs[0].name == "y"
    same_outputs(before, after, FEED)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_takes_what_follows_it(transposed: int) -> None:
    weight = RNG.standard_normal((5, 4) if transposed else (4, 5))
    body = f"g = Gemm<transB = {transposed}>(x, w, b) m = Mul(g, s) y = Add(m, row)"
    weights = {"w": weight, "b": RNG.standard_normal((1, 5)), "s": np.array(2.5), "row": RNG.standard_normal(5)}
    before = net(body, weights, x="float[3, 4] x")
    after = before.clone()
    assert len(fold_scales(after)) == 2
    same_outputs(before, after, RNG.standard_normal((3, 4)).astype(np.float32))


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(x, s) a = Add(m, t) y = Conv(a, w1)",
        'm = Div(x, s) a = Sub(t, m) y = Conv<auto_pad = "VALID">(a, w1)',
        "m = Mul(channels, x) a = Add(m, three_axes) y = Conv<group = 2>(a, w2)",
        "m = Mul(x, channels) c = Conv(m, w1) d = Conv<group = 2>(m, w2) e = Concat<axis = 1>(c, d) y = Relu(e)",
        f"m = Mul(x, channels) y = {PADDED}(m, w, b)",
        "m = Mul(x, channels) y = ConvTranspose<group = 2, strides = [2, 2]>(m, wt)",
    ],
)
def test_layers_take_what_precedes_them(body: str) -> None:
    before = net(body, WEIGHTS)
    after = before.clone()
    assert len(fold_scales(after)) >= 1
    assert not {"Mul", "Add", "Sub", "Div"} & set(ops(after))
    same_outputs(before, after, FEED)


@pytest.mark.parametrize("shift", ["Add(m, t)", "Add(channels, m)", "Sub(m, t)"])
@pytest.mark.parametrize("scale", ["s", "channels"])
def test_a_scaling_passes_a_shift_that_padding_holds(scale: str, shift: str) -> None:
    before = net(f"m = Mul(x, {scale}) a = {shift} y = {PADDED}(a, w)", WEIGHTS)
    after = before.clone()
    assert len(fold_scales(after)) == 1
    assert len(after.graph) == 2
    same_outputs(before, after, FEED)


@pytest.mark.parametrize(
    "body",
    [
        f"m = Add(x, t) y = {PADDED}(m, w)",  # zeros beside the input get no shift
        'm = Add(x, t) y = Conv<auto_pad = "SAME_UPPER">(m, w)',
        "m = Add(x, t) y = ConvTranspose(m, wt)",
        "m = Mul(x, s) c = Conv(m, w1) r = Relu(m) p = Concat<axis = 1>(c, r) y = Relu(p)",
        f"m = Mul(x, none) a = Add(m, t) y = {PADDED}(a, w)",  # nothing divides by zero
        f"m = Mul(x, s) a = Sub(t, m) y = {PADDED}(a, w)",
        "c = Conv(x, w1) m = Mul(c, columns) y = Relu(m)",  # along the last axis
        f"c = {PADDED}(x, w) m = Add(c, map) y = Relu(m)",
        f"c = {PADDED}(x, w) m = Mul(c, s) n = Add(m, c) y = Relu(n)",
        "m = Mul(x, map) y = Conv(m, w1)",
        "c = Conv(x, w1) d = Conv(x, w1) e = Mul(c, s) y = Add(d, e)",  # the weight is another layer's too
        "c = Conv(x, w1) y = Div(s, c)",
    ],
)
def test_anything_else_stays(body: str) -> None:
    weights = WEIGHTS if "columns" not in body else {**WEIGHTS, "columns": RNG.standard_normal(6)}
    before = net(body, weights)
    after = before.clone()
    assert len(fold_scales(after)) == 0
    same_outputs(before, after, FEED)


def test_a_constant_that_widens_the_output_stays() -> None:
    weights = {
        "w": RNG.standard_normal((1, 4, 1, 1)),
        "wide": RNG.standard_normal((1, 5, 1, 1)),
        "axes": np.ones([1] * 5),
    }
    for name in ("wide", "axes"):
        model = net(f"c = Conv(x, w) y = Mul(c, {name})", weights)
        assert len(fold_scales(model)) == 0


def test_an_output_between_stays() -> None:
    body = "y = Conv(x, w1) z = Mul(y, s)"
    before = net(body, WEIGHTS, y="float[] y, float[] z")
    after = before.clone()
    assert len(fold_scales(after)) == 0
    before = net("y = Mul(x, s) z = Conv(y, w1)", WEIGHTS, y="float[] y, float[] z")
    assert len(fold_scales(before)) == 0


def test_a_weight_beyond_float32_is_not_written() -> None:
    weights = {"w": np.full((1, 4, 1, 1), 1e30), "s": np.array(1e10)}
    assert not fold_scales(net("c = Conv(x, w) y = Mul(c, s)", weights))
    assert not fold_scales(net("m = Mul(x, s) y = Conv(m, w)", weights))


def test_a_bias_of_two_layers_is_changed_for_one() -> None:
    before = net(
        f"c = {PADDED}(x, w, b) d = {PADDED}(x, v, b) m = Mul(c, s) y = Add(m, d)", {**WEIGHTS, "v": -WEIGHTS["w"]}
    )
    after = before.clone()
    assert len(fold_scales(after)) == 1
    same_outputs(before, after, FEED)


def test_a_layer_norm_keeps_its_parts() -> None:
    """The runtime recognizes a layer norm by its scaling and shift; a Gemm behind them takes neither."""
    model = net("m = Mul(x, s) a = Add(m, t) y = Gemm(a, w)", {**WEIGHTS, "w": np.ones((4, 5))}, x="float[3, 4] x")
    assert len(fold_scales(model)) == 0


@pytest.mark.parametrize(("kind", "name"), [(np.float16, "float16"), (np.float64, "double")])
def test_other_types_stay(kind: type[np.floating[Any]], name: str) -> None:
    model = net("c = Conv(x, w1) y = Mul(c, s)", WEIGHTS, x=f"{name}[2, 4, 6, 6] x", y=f"{name}[] y", kind=kind)
    assert len(fold_scales(model)) == 0


STEPS = st.sampled_from(["Mul({}, s)", "Add({}, t)", "Div({}, s)", "Sub({}, t)", "Sub(t, {})", "Mul(channels, {})"])
LAYERS = st.sampled_from([f"{PADDED}({{}}, w)", "Conv<group = 4>({}, deep)", "Conv({}, square)", "Relu({})"])


@given(st.lists(st.one_of(STEPS, LAYERS), min_size=1, max_size=8))
def test_any_chain_keeps_its_outputs(parts: list[str]) -> None:
    used = {"deep": RNG.standard_normal((4, 1, 1, 1)), "square": RNG.standard_normal((4, 4, 1, 1))}
    value, lines, weights = "x", [], {**WEIGHTS, **used}
    for number, part in enumerate(parts):
        line = part.format(value)
        for name in (" w)", " deep)", " square)"):  # each layer has weights of its own
            if line.endswith(name):
                weights[f"v{number}"] = RNG.standard_normal(weights[name[1:-1]].shape)
                line = line.replace(name, f" v{number})")
        value = "y" if number == len(parts) - 1 else f"h{number}"
        lines.append(f"{value} = {line}")
    before = net(" ".join(lines), weights)
    after = before.clone()
    folded = fold_scales(after)
    assert len(after.graph) == len(before.graph) - len(folded)
    same_outputs(before, after, FEED)


def test_an_output_of_known_shape_has_a_type() -> None:
    """A model whose inner values have no types, as some exporters write them, gets a valid output."""
    model = net("c = Conv(x, w1) y = Mul(c, s)", WEIGHTS)
    model.graph[0].outputs[0].shape = ir.Shape([2, 6, 6, 6])
    assert len(fold_scales(model)) == 1
    onnx.checker.check_model(ir.serde.serialize_model(model))
    assert model.graph.outputs[0].type == ir.TensorType(ir.DataType.FLOAT)
