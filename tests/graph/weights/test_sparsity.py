"""Zeros are counted once per weight, and weights are found wherever they stand."""

import numpy as np
import pytest

from onnxopt.graph.edit import set_weight
from onnxopt.graph.weights.sparsity import Axes, sparsity_of, weights_of
from tests import builders
from tests.builders import ROWS, F, Net


def test_zeros_are_counted_per_layer_and_in_all() -> None:
    net = Net(1)
    hidden = net.node("MatMul", "x", net.const(np.eye(8, dtype=np.float32)), name="one")
    net.node(
        "Gemm", hidden, net.const(np.ones((8, 4), np.float32)), net.const(np.zeros(4, np.float32)), out="y", name="two"
    )
    sparsity = sparsity_of(net.model([ROWS], [("y", F, ["batch", 4])]))
    assert sparsity.layers == {"one": (56, 64), "two": (0, 32)}
    assert (sparsity.zeros, sparsity.elements) == (60, 100)
    assert sparsity.total == 0.6
    assert sparsity.of_layer("one") == 56 / 64
    assert sparsity.of_layer("none") is None


def test_a_shared_weight_counts_once() -> None:
    sparsity = sparsity_of(builders.BUILDERS["shared_weights"]())
    assert sparsity.elements == 72
    assert [n for _, n in sparsity.layers.values()] == [64, 64, 64]


def test_constants_and_subgraphs_count() -> None:
    assert sparsity_of(builders.BUILDERS["constant_nodes"]()).elements == 64 + 8 + 32 + 4
    assert sparsity_of(builders.BUILDERS["if_branches"]()).zeros == 2 * 28 + 1  # two unit matrices and a scalar


def test_no_float_weight_is_no_share() -> None:
    assert sparsity_of(builders.BUILDERS["nothing_to_do"]()).total is None


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_counting_needs_no_special_graph(name: str) -> None:
    model = builders.BUILDERS[name]()
    sparsity = sparsity_of(model)
    assert 0 <= sparsity.zeros <= sparsity.elements
    weights, _ = weights_of(model)
    for weight in weights:
        assert weight.value.is_initializer()
        assert weight.layers


@pytest.mark.parametrize(
    ("op", "shape", "slot", "attributes", "axes"),
    [
        ("MatMul", (8, 4), 1, {}, Axes(1, 0)),
        ("MatMul", (2, 8, 4), 1, {}, Axes(2, 1)),
        ("MatMul", (8,), 1, {}, Axes(None, 0)),
        ("MatMul", (4, 2), 0, {}, Axes(0, 1)),
        ("Gemm", (8, 4), 1, {}, Axes(1, 0)),
        ("Gemm", (4, 8), 1, {"transB": 1}, Axes(0, 1)),
        ("Gemm", (4, 2), 0, {}, Axes(0, 1)),
        ("Gemm", (2, 4), 0, {"transA": 1}, Axes(1, 0)),
        ("Conv", (4, 8, 3), 1, {}, Axes(0, 1)),
        ("ConvTranspose", (8, 4, 3), 1, {}, Axes(1, 0)),
        ("ConvTranspose", (8, 4, 3), 1, {"group": 2}, None),
        ("Gemm", (6,), 0, {}, None),
        ("Gemm", (), 1, {}, None),
        ("Conv", (4,), 1, {}, None),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_axes_are_those_of_the_stored_weight(op, shape, slot, attributes, axes, turned: bool) -> None:
    net = Net(2)
    stored = shape[::-1] if turned else shape
    weight = net.weight(*stored, name="w")
    if turned:
        weight = net.node("Transpose", net.node("Identity", weight))
    net.node(op, *(("x", weight) if slot else (weight, "x")), out="y", **attributes)
    weights, refused = weights_of(net.model([("x", F, None)], [("y", F, None)]))
    assert not refused
    if turned and axes is not None:
        last = len(shape) - 1
        axes = Axes(*(None if a is None else last - a for a in (axes.outputs, axes.inputs)))
    assert [w.axes for w in weights] == [axes]


@pytest.mark.parametrize("perm", [[0], [0, 2, 1], [0, 0], [1, 2]])
def test_axes_behind_a_permutation_of_others_are_unknown(perm: list[int]) -> None:
    net = Net(3)
    net.node("MatMul", "x", net.node("Transpose", net.weight(8, 4, name="w"), perm=perm), out="y")
    (weight,), _ = weights_of(net.model([("x", F, None)], [("y", F, None)]))
    assert weight.axes is None


def test_two_permutations_on_the_way_are_followed_in_order() -> None:
    net = Net(3)
    inner = net.node("Transpose", net.weight(8, 2, 4, name="w"), perm=[1, 2, 0])
    net.node("Conv", "x", net.node("Transpose", inner, perm=[2, 1, 0]), out="y")
    (weight,), _ = weights_of(net.model([("x", F, None)], [("y", F, None)]))
    stored = np.zeros((8, 2, 4))
    read = stored.transpose(1, 2, 0).transpose(2, 1, 0)
    assert weight.axes is not None
    assert weight.axes.outputs is not None
    assert weight.axes.inputs is not None
    assert stored.shape[weight.axes.outputs] == read.shape[0]
    assert stored.shape[weight.axes.inputs] == read.shape[1]
    assert weight.axes == Axes(0, 2)


def test_a_negative_zero_is_a_zero() -> None:
    model = builders.BUILDERS["with_metadata"]()
    (value,) = model.graph.initializers.values()
    set_weight(value, np.full((8, 4), -0.0, np.float32))
    assert sparsity_of(model).total == 1
