"""Names of nodes that were folded or fused since the user saw them."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.graph.renamed import renamed
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.target import target_of
from tests import builders
from tests.builders import CLASSES, IMAGE, Net


def model() -> ir.Model:
    """Return a convolution with a normalization, a constant expression, and a product with a sum."""
    net = Net(1)
    conv = net.conv("x", 3, 8, bias=False, name="conv")
    variance = net.const(np.ones(8, np.float32))
    stats = (net.weight(8), net.weight(8), net.weight(8), variance)
    normed = net.node("BatchNormalization", conv, *stats, name="norm")
    flat = net.node("Flatten", net.node("GlobalAveragePool", net.node("Relu", normed)))
    weight = net.node("Transpose", net.weight(4, 8), perm=[1, 0], name="turned")
    net.node("Add", net.node("MatMul", flat, weight, name="product"), net.weight(4), name="sum", out="y")
    return net.model([IMAGE], [CLASSES], opset=13)


@pytest.mark.parametrize("quantizer", ["quantize-static", "quantize-dynamic"])
@pytest.mark.parametrize(
    ("name", "heir"), [("conv", "conv"), ("norm", "conv"), ("product", "product"), ("sum", "product"), ("turned", "")]
)
def test_a_name_of_the_file_is_known_after_simplify(quantizer: str, name: str, heir: str) -> None:
    step = quantized(f"simplify,{quantizer}{{exclude=[{name}]}}")
    left = {s.target: s.reason for s in step.skipped}
    assert not heir or not [e.target for e in step.edits if e.target.startswith(heir)]
    if name == "turned":
        assert "folded into a constant" in left[name]
        assert [e.target for e in step.edits if e.target.startswith("product")]
    elif name != heir:
        assert f"merged into {heir}" in left[name]


def quantized(spec: str) -> Step:
    made = model()
    return Pipeline(parse(spec)).run(made, Context(target_of("x86-vnni"), builders.samples_of(made))).steps[-1]


def test_a_name_that_was_never_there_is_refused() -> None:
    with pytest.raises(UsageError, match="ONX102"):
        quantized("simplify,quantize-static{exclude=[nothing]}")


def test_a_name_that_several_read_has_no_heir() -> None:
    net = Net(2)
    both = net.node("Neg", "x", name="gone")
    net.node("Add", net.node("Relu", both), net.node("Abs", both), out="y")
    before = net.model([builders.ROWS], [("y", 1, ["batch", 8])])
    other = Net(2)
    other.node("Relu", "x", out="y")
    after = other.model([builders.ROWS], [("y", 1, ["batch", 8])])
    assert "removed" in renamed(after, ["gone"], before).notes["gone"]
    assert renamed(after, ["gone"], None).names == ("gone",)
