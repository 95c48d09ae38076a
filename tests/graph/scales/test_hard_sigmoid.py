"""Hard sigmoids in several operators become one, with the same outputs."""

import numpy as np
import pytest

from onnxopt.graph.scales.hard_sigmoid import write_hard_sigmoids
from tests import builders
from tests.graph.scales.nets import net, ops, same_outputs

RNG = np.random.default_rng(0)
FEED = (4 * RNG.standard_normal((2, 4, 6, 6))).astype(np.float32)
CONSTANTS = {
    "three": np.array(3.0),
    "zero": np.array(0.0),
    "six": np.array([6.0]),
    "top": np.array(6.0),
    "sixth": np.array(1 / 6),
    "fifth": np.array(0.2),
    "half": np.array(0.5),
    "one": np.array(1.0),
}


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, three) c = Clip(a, zero, top) y = Div(c, six)",
        "a = Add(three, x) c = Clip(a, zero, top) y = Mul(sixth, c)",
        "a = Sub(x, three) c = Clip(a, zero, top) y = Mul(c, sixth)",
        "s = Mul(x, fifth) a = Add(s, half) c = Clip(a, zero, one) y = Div(c, one)",
        "s = Mul(fifth, x) t = Add(s, half) a = Div(t, fifth) c = Clip(a, zero, top) y = Mul(c, sixth)",
        "a = Add(x, three) r = Relu(a) c = Min(r, six) y = Div(c, six)",
        "a = Add(x, three) r = Max(zero, a) c = Min(six, r) y = Div(c, six)",
    ],
)
def test_a_hard_sigmoid_is_one_operator(body: str) -> None:
    before = net(body, CONSTANTS)
    after = before.clone()
    assert len(write_hard_sigmoids(after)) == 1
    assert ops(after) == {"HardSigmoid": 1}
    same_outputs(before, after, FEED)


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, three) c = Clip(a, zero, top) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, top) m = Mul(c, x) y = Mul(m, sixth)",
        "a = Add(x, three) c = Clip(a, zero, top) h = Div(c, six) y = Mul(x, h)",
        "g = Neg(x) a = Add(x, three) c = Clip(a, zero, top) m = Mul(g, c) n = Div(m, six) y = Neg(n)",
    ],
)
def test_a_hard_swish_is_a_product_with_a_hard_sigmoid(body: str) -> None:
    before = net(body, CONSTANTS)
    after = before.clone()
    assert len(write_hard_sigmoids(after)) == 1
    found = ops(after)
    assert (found["HardSigmoid"], found["Mul"]) == (1, 1)
    assert not {"Add", "Clip", "Div"} & set(found)
    same_outputs(before, after, FEED)


def test_the_scaled_source_of_a_hard_swish_stays() -> None:
    """The product reads it too: a hard sigmoid of what lies before it would be right, but the source is needed."""
    body = "s = Mul(x, half) a = Add(s, three) c = Clip(a, zero, top) m = Mul(s, c) y = Div(m, six)"
    before = net(body, CONSTANTS)
    after = before.clone()
    assert len(write_hard_sigmoids(after)) == 1
    assert ops(after) == {"Mul": 2, "HardSigmoid": 1}
    same_outputs(before, after, FEED)


def test_bounds_that_are_attributes_are_read() -> None:
    before = builders.BUILDERS["hard_swish_9"]()
    after = before.clone()
    assert len(write_hard_sigmoids(after)) == 1
    assert "Clip" not in ops(after)
    feeds = builders.feeds_of(before)
    for a, b in zip(builders.run(before, feeds), builders.run(after, feeds), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, three) c = Clip(a, zero, top) y = Div(c, three)",  # up to two, not one
        "a = Add(x, three) c = Clip(a, half, top) y = Div(c, six)",  # not down to zero
        "a = Add(x, three) c = Clip(a, , top) y = Div(c, six)",
        "a = Add(x, three) c = Clip(a, zero) y = Div(c, six)",
        "a = Add(x, three) c = Clip(a, zero, top) y = Div(six, c)",
        "a = Add(x, three) c = Clip(a, zero, top) m = Mul(x, c) d = Div(m, six) y = Add(d, m)",
        "a = Add(x, three) c = Clip(a, zero, top) d = Div(c, six) y = Add(d, c)",
        "a = Add(x, three) c = Clip(a, zero, top) m = Mul(c, c) y = Div(m, six)",
        "a = Add(x, three) r = Relu(a) c = Min(r, six) d = Div(c, six) y = Add(d, r)",
    ],
)
def test_anything_else_stays(body: str) -> None:
    model = net(body, CONSTANTS)
    before = ops(model)
    assert len(write_hard_sigmoids(model)) == 0
    assert ops(model) == before


def test_other_readers_keep_the_parts_they_read() -> None:
    body = "a = Add(x, three) c = Clip(a, zero, top) m = Mul(x, c) d = Div(m, six) y = Add(d, a)"
    before = net(body, CONSTANTS)
    after = before.clone()
    assert len(write_hard_sigmoids(after)) == 1
    same_outputs(before, after, FEED)


def test_only_float32_is_written() -> None:
    body = "a = Add(x, three) c = Clip(a, zero, top) y = Div(c, six)"
    assert (
        len(write_hard_sigmoids(net(body, CONSTANTS, x="double[2, 4, 6, 6] x", y="double[] y", kind=np.float64))) == 0
    )
