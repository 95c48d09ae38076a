"""Sums of depthwise-separable convolutions."""

import itertools

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.layers import anatomy_of
from onnxopt.graph.separable_edit import replace_by_separable
from onnxopt.reconstruction.linear import linear_layers
from onnxopt.reconstruction.low_rank.layer_statistics import weight_of
from onnxopt.reconstruction.separable import separable_macs_share, separated
from tests import builders, numerics
from tests.builders import F, Net

PADDINGS = ({}, {"pads": "uneven"}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"})


def conv(kernel: tuple[int, ...], stride: int, dilation: int, padding: dict, bias: bool) -> ir.Model:
    net, rank = Net(40), len(kernel)
    given = {"strides": [stride] * rank, "dilations": [dilation] * rank, **padding}
    if "pads" in padding:
        given["pads"] = [*range(1, rank + 1), *range(rank, 0, -1)]
    inputs = ["x", net.weight(10, 6, *kernel)] + ([net.weight(10)] if bias else [])
    net.node("Conv", *inputs, out="y", name="conv", **given)
    return net.model([("x", F, ["batch", 6, *[12] * rank])], [("y", F, ["batch", 10, *[None] * rank])])


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (5, 1), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_with_all_terms_the_layer_is_the_same(kernel: tuple[int, ...], padding: dict) -> None:
    for stride, dilation, bias in itertools.product((1, 2), (1, 2), (False, True)):
        if "auto_pad" in padding and dilation > 1:
            continue  # ONNX Runtime refuses these together
        model = conv(kernel, stride, dilation, padding, bias)
        feeds = builders.feeds_of(model)
        before = builders.run(model, feeds)
        weight = weight_of(model, linear_layers(model)["conv"])
        sums = separated(weight, min(int(np.prod(kernel)), len(weight)))
        assert np.allclose(sums.weight(), weight)
        replace_by_separable(model, "conv", sums.depthwise(), sums.mix)
        for optimized in (False, True):
            after = builders.run(model, feeds, optimized)
            assert numerics.largest_difference(before, after) < numerics.EXACT_RELATIVE


def test_the_error_is_the_tail_of_the_spectra() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 5, 3, 3))
    values = [np.linalg.svd(weight[:, i].reshape(16, 9), compute_uv=False) for i in range(5)]
    for terms in range(1, 10):
        lost = np.square(weight - separated(weight, terms).weight()).sum()
        assert lost == pytest.approx(sum(np.square(v[terms:]).sum() for v in values), abs=1e-9)


def test_what_is_mixed_is_what_the_kernels_see() -> None:
    rng = np.random.default_rng(1)
    weight, rows = rng.standard_normal((8, 3, 3, 3)), rng.standard_normal((20, 27))
    sums = separated(weight, 2)
    assert np.allclose(sums.features(rows) @ sums.mix.T, rows @ sums.weight().reshape(8, -1).T)


def test_the_predicted_work_is_that_of_the_graph() -> None:
    model = conv((3, 3), 1, 1, {"auto_pad": "SAME_UPPER"}, True)
    model.graph.inputs[0].shape = ir.Shape([1, 6, 12, 12])
    whole = anatomy_of(model).macs
    sums = separated(weight_of(model, linear_layers(model)["conv"]), 2)
    replace_by_separable(model, "conv", sums.depthwise(), sums.mix)
    assert separable_macs_share(2, (10, 6, 3, 3)) == pytest.approx(anatomy_of(model).macs / whole)
