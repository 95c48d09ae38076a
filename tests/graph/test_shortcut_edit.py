"""Shortcuts that drop pixels and add channels of zeros become one convolution with the same outputs."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.merge import merge_operators
from onnxopt.graph.shortcut_edit import MOST_CHANNELS
from tests import builders
from tests.builders import F, Net

FAR = 2**63 - 1


def shortcut(
    steps: dict[int, int] | None = None,
    pads: tuple[int, ...] = (0, 2, 0, 0, 0, 2, 0, 0),
    *,
    channels: int = 4,
    start: int = 0,
    end: int = FAR,
    value: float | None = 0.0,
    mode: str = "constant",
    shared: bool = False,
    size: int = 7,
) -> ir.Model:
    """Return Slices with one step per axis and a Pad, between two activation functions."""
    net = Net(3)
    x = first = net.node("Relu", "x")
    for axis, step in (steps if steps is not None else {3: 2, 2: 2}).items():
        x = net.node("Slice", x, net.ints(start), net.ints(end), net.ints(axis), net.ints(step))
        first = first if x is None else x
    filler = [] if value is None else [net.const(np.float32(value))]
    net.node("Sigmoid", net.node("Pad", x, net.ints(*pads), *filler, mode=mode), out="y")
    outputs = [("y", F, None)]
    if shared:
        net.node("Neg", x, out="z")
        outputs.append(("z", F, None))
    return net.model([("x", F, ["batch", channels, size, 8])], outputs)


def written(model: ir.Model) -> ir.Model:
    """Return the model after the pass, whose outputs are those of before."""
    after = model.clone()
    merge_operators(after)
    feeds = builders.feeds_of(model)
    for one, other in zip(builders.run(model, feeds), builders.run(after, feeds), strict=True):
        np.testing.assert_array_equal(one, other)
    return after


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"value": None},
        {"steps": {-1: 2, -2: 2}},
        {"steps": {2: 3}, "pads": (0, 0, 0, 0, 0, 5, 0, 0)},
        {"end": 8},
        {"channels": MOST_CHANNELS},
    ],
    ids=str,
)
def test_a_shortcut_becomes_one_convolution(case: dict) -> None:
    assert ops(written(shortcut(**case))) == ["Relu", "Conv", "Sigmoid"]


@pytest.mark.parametrize(
    "case",
    [
        {"steps": {}},
        {"steps": {1: 2}},
        {"steps": {0: 1, 3: 2}},
        {"start": 1},
        {"end": 6},
        {"value": 0.5},
        {"pads": (0, 2, 1, 0, 0, 2, 0, 0)},
        {"pads": (0, -1, 0, 0, 0, 2, 0, 0)},
        {"mode": "reflect", "pads": (0, 0, 0, 0, 0, 3, 0, 0)},
        {"channels": MOST_CHANNELS + 1},
    ],
    ids=str,
)
def test_others_stay(case: dict) -> None:
    model = shortcut(**case)
    assert ops(written(model)) == ops(model)


def test_a_slice_that_others_read_stays_before_the_convolution() -> None:
    assert sorted(ops(written(shortcut(shared=True)))) == sorted(["Relu", "Slice", "Slice", "Pad", "Sigmoid", "Neg"])


def test_no_shape_is_stored_that_was_not_before() -> None:
    after = written(shortcut())
    assert all(value.shape is None for node in after.graph for value in node.outputs if not value.is_graph_output())
