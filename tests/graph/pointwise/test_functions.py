"""The functions behind a layer, and no others, go with it."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.pointwise.functions import MOST, with_functions
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import TARGETS
from tests.builders import IMAGE, F, Net, samples_of

KINDS = ("Conv",)


def two_layers(*, shared: bool = False, given_out: bool = False) -> ir.Model:
    """Return two convolutions with SiLU between them; the first one's output may have another reader, or go out."""
    net = Net(0)
    first = net.node("Conv", "x", net.weight(8, 3, 3, 3), pads=[1] * 4, kernel_shape=[3, 3], name="first", out="a")
    silu = net.node("Mul", first, net.node("Sigmoid", first, name="gate"), name="product")
    second = net.node("Conv", silu, net.weight(4, 8, 1, 1), name="second", out="b" if shared else "y")
    if shared:
        net.node("Add", second, net.node("Conv", first, net.weight(4, 8, 1, 1), name="third"), name="sum", out="y")
    out = ("y", F, ["batch", 4, 8, 8])
    return net.model([IMAGE], [out, ("a", F, ["batch", 8, 8, 8])] if given_out else [out])


def test_silu_goes_with_its_layer() -> None:
    assert with_functions(two_layers(), ("first",), KINDS) == ("first", "gate", "product")
    assert with_functions(two_layers(), ("second", "first"), KINDS) == ("second", "first", "gate", "product")


@pytest.mark.parametrize("options", [{"shared": True}, {"given_out": True}])
def test_functions_stay_where_others_read_the_output_too(options: dict[str, bool]) -> None:
    assert with_functions(two_layers(**options), ("first",), KINDS) == ("first",)


@pytest.mark.parametrize("names", [(), ("gate",), ("unknown",), ("second",)])
def test_other_nodes_take_nothing_along(names: tuple[str, ...]) -> None:
    assert with_functions(two_layers(), names, KINDS) == names
    assert with_functions(two_layers(), ("first",), ("MatMul",)) == ("first",)


def test_long_functions_are_left() -> None:
    for count, expected in ((MOST, MOST + 1), (MOST + 1, 1)):
        net = Net(0)
        value = net.node("Conv", "x", net.weight(4, 3, 1, 1), name="first")
        for number in range(count):
            value = net.node("Tanh", value, name=f"tanh{number}")
        net.node("Conv", value, net.weight(4, 4, 1, 1), out="y")
        model = net.model([IMAGE], [("y", F, ["batch", 4, 8, 8])])
        assert len(with_functions(model, ("first",), KINDS)) == expected


def test_a_layer_that_is_excluded_leaves_its_activation_in_float() -> None:
    model = two_layers()
    context = Context(TARGETS["x86-vnni"], calibration=samples_of(model, 8))

    def quantized(**options: tuple[str, ...]) -> set[str]:
        return {edit.target for edit in Pipeline((QuantizeStatic(**options),)).run(model, context).steps[-1].edits}  # type: ignore[arg-type]

    assert quantized() == {"first", "gate", "product", "second"}
    assert quantized(exclude=("first",)) == {"second"}
    assert quantized(exclude=("gate",)) == {"first", "product", "second"}
    assert np.all([name in quantized(exclude=("second",)) for name in ("first", "gate", "product")])
