"""A layer replaced by a chain computes the same whatever its attributes, optimized by the runtime or not."""

import itertools

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.graph.check import check_structure
from onnxopt.graph.factor_edit import replace_by_chain
from onnxopt.reconstruction.linear import linear_layer
from onnxopt.reconstruction.low_rank.factors import factorized_in_groups
from onnxopt.reconstruction.low_rank.forms import factor_forms, largest_ranks, of_one_group
from onnxopt.reconstruction.low_rank.layer_statistics import weight_of
from tests import builders, numerics
from tests.builders import F, Net

PADDINGS = {"none": {}, "even": {"pads": 1}, "uneven": {"pads": 2}, **{p: {"auto_pad": p} for p in ("VALID",)}}
PADDINGS |= {p: {"auto_pad": p} for p in ("SAME_UPPER", "SAME_LOWER")}


def chained(model: ir.Model, name: str, form: str) -> ir.Model:
    """Return a copy whose layer is a chain of full rank."""
    copy = model.clone()
    layer = linear_layer(copy, next(n for n in copy.graph if n.name == name), grouped=True)
    assert layer is not None
    weight = weight_of(copy, layer)
    ranks = largest_ranks(form, of_one_group(weight.shape, layer.groups))
    factors = factorized_in_groups(weight, layer.groups, form, ranks)
    replace_by_chain(copy, name, [(stage.weight, stage.axes) for stage in factors.stages])
    check_structure(copy)
    model_file.check(copy)
    return copy


def assert_equal_outputs(model: ir.Model, chain: ir.Model, feeds: dict[str, np.ndarray], op: str, least: int) -> None:
    assert sum(node.op_type == op for node in chain.graph) >= least
    for optimized in (False, True):
        before, after = (builders.run(m, feeds, optimized) for m in (model, chain))
        assert numerics.largest_difference(before, after) < numerics.EXACT_RELATIVE


def convolution(kernel, stride, dilation, padding, bias, groups=1):
    """A convolution of 3 to 5 channels per group whose attributes differ between its axes."""
    rank, net = len(kernel), Net(7)
    attributes = {
        "kernel_shape": list(kernel),
        "strides": [stride + (axis == 1) for axis in range(rank)] if stride > 1 else [1] * rank,
        "dilations": [dilation + (axis == 0) for axis in range(rank)] if dilation > 1 else [1] * rank,
        **padding,
        **({"group": groups} if groups > 1 else {}),
    }
    if "pads" in padding:
        begins = [axis % 2 + 1 for axis in range(rank)]
        attributes["pads"] = begins + (begins if padding["pads"] == 1 else [n + 1 for n in begins])
    weights = [net.weight(5 * groups, 3, *kernel)] + ([net.weight(5 * groups)] if bias else [])
    net.node("Conv", "x", *weights, out="y", name="conv", **attributes)
    size = {1: [17], 2: [11, 12], 3: [9, 8, 10]}[rank]
    return net.model([("x", F, [2, 3 * groups, *size])], [("y", F, [2, 5 * groups, *[None] * rank])])


KERNELS = [(3,), (1,), (3, 3), (3, 2), (1, 3), (1, 1), (2, 3, 2), (3, 1, 1)]
CONVOLUTIONS = [
    (kernel, stride, dilation, padding)
    for kernel, stride, dilation, padding in itertools.product(KERNELS, (1, 2), (1, 2), PADDINGS)
    # The runtime refuses dilations with a padding that depends on the size.
    if not (dilation > 1 and padding.startswith("SAME"))
]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("kernel", "stride", "dilation", "padding"), CONVOLUTIONS)
def test_every_convolution_at_full_rank(kernel, stride, dilation, padding, groups):
    model = convolution(kernel, stride, dilation, PADDINGS[padding], bias=stride == 1, groups=groups)
    feeds = builders.feeds_of(model)
    for form in factor_forms(kernel):
        assert_equal_outputs(model, chained(model, "conv", form), feeds, "Conv", 3 if form == "tucker" else 2)


@pytest.mark.parametrize(
    "attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1, "alpha": -3.0}], ids=str
)
@pytest.mark.parametrize("bias", ["none", "vector", "row"])
@pytest.mark.parametrize("opset", [9, 17])
def test_every_gemm_at_full_rank(attributes, bias, opset):
    if bias == "none" and opset < 11:
        pytest.skip("before opset 11 Gemm had to have a bias")
    net = Net(8)
    shape = (6, 4) if attributes.get("transB") else (4, 6)
    bias_of = {"none": [], "vector": [net.weight(6)], "row": [net.const(np.arange(6, dtype=np.float32)[None])]}
    net.node("Gemm", "x", net.weight(*shape), *bias_of[bias], out="y", name="fc", **attributes)
    model = net.model([("x", F, ["batch", 4])], [("y", F, ["batch", 6])], opset=opset)
    chain = chained(model, "fc", "channel")
    assert_equal_outputs(model, chain, builders.feeds_of(model), "MatMul" if bias == "none" else "Gemm", 1)
    assert "beta" not in attributes or bias == "none" or chain.graph[-1].attributes["beta"].as_float() == 2.0


@pytest.mark.parametrize("shape", [["batch", 4], ["batch", 5, 4], [2, 3, 5, 4]])
def test_a_product_with_its_weight_on_the_right(shape):
    net = Net(9)
    net.node("MatMul", "x", net.weight(4, 6), out="y", name="fc")
    model = net.model([("x", F, shape)], [("y", F, [*shape[:-1], 6])])
    assert_equal_outputs(model, chained(model, "fc", "channel"), builders.feeds_of(model), "MatMul", 2)


@pytest.mark.parametrize("shape", [[4, 5], ["batch", 4, 5]])
def test_a_product_with_its_weight_on_the_left(shape):
    net = Net(10)
    net.node("MatMul", net.weight(6, 4), "x", out="y", name="fc")
    model = net.model([("x", F, shape)], [("y", F, [*shape[:-2], 6, 5])])
    assert_equal_outputs(model, chained(model, "fc", "channel"), builders.feeds_of(model), "MatMul", 2)


def test_an_output_that_others_read_keeps_its_name_and_readers():
    net = Net(11)
    net.conv("x", 3, 4, name="conv")
    net.nodes[-1].output[0] = "y"
    net.node("Relu", "y", out="z")
    model = net.model([builders.IMAGE], [("y", F, ["batch", 4, 8, 8]), ("z", F, ["batch", 4, 8, 8])])
    chain = chained(model, "conv", "tucker")
    assert [value.name for value in chain.graph.outputs] == ["y", "z"]
    assert_equal_outputs(model, chain, builders.feeds_of(model), "Conv", 3)


def test_names_that_are_taken_are_left_alone():
    net = Net(12)
    net.conv("x", 3, 4, name="conv")
    net.nodes[-1].output[0] = "conv_factor1"
    net.node("Relu", "conv_factor1", out="y", name="y_factor1")
    model = net.model([builders.IMAGE], [("y", F, ["batch", 4, 8, 8])])
    assert_equal_outputs(model, chained(model, "conv", "spatial"), builders.feeds_of(model), "Conv", 2)


def test_the_original_is_not_changed():
    model = convolution((3, 3), 1, 1, PADDINGS["even"], bias=True)
    before = model_file.to_bytes(model)
    chained(model, "conv", "channel")
    assert model_file.to_bytes(model) == before
