"""What the runtime's quantizer is known to get wrong, and that we do not."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.catalog import parse
from onnxopt.errors import NativeError
from onnxopt.model_file import from_bytes, light, to_bytes, to_proto
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization import ort_bridge
from onnxopt.quantization.calibration.ranges import Range
from onnxopt.quantization.ort import operators
from onnxopt.quantization.ort_bridge import DynamicOptions, StaticOptions
from onnxopt.target import detect
from tests import builders, numerics
from tests.builders import CLASSES, IMAGE, ROWS, Net

STATIC = ["quantize-static", "quantize-static{form=qoperator}", "quantize-static{per_channel=false}"]
ALL = [*STATIC, "quantize-dynamic", "quantize-dynamic{per_channel=false}"]
OPTIONS = StaticOptions("qdq", "uint8", "int8", True, False, ("MatMul",), ())


def sqnr_db(model: ir.Model, spec: str, optimized: bool = True) -> float:
    """Return the SQNR of the first output on the samples that the pass is calibrated on."""
    samples = builders.samples_of(model)
    result = Pipeline(parse(spec)).run(model, Context(detect(), samples)).model
    signal, noisy = (
        np.concatenate([builders.run(m, dict(feeds), o)[0].ravel() for feeds in samples.with_batch_size(1)])
        for m, o in ((model, False), (result, optimized))
    )
    return numerics.sqnr_db(signal, noisy)


def gemm(transposed: int, bias: tuple[int, ...] | None, **factors: float) -> ir.Model:
    net = Net(3)
    inputs = [net.weight(4, 8) if transposed else net.weight(8, 4)]
    inputs += [] if bias is None else [net.weight(*bias)]
    net.node("Gemm", "x", *inputs, transB=transposed, out="y", **factors)
    return net.model([ROWS], [CLASSES], opset=13)


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (4,), (1,), (), (1, 4)], ids=str)
@pytest.mark.parametrize("factors", [{}, {"alpha": 2.0}, {"beta": 0.5}, {"alpha": 0.5, "beta": 4.0}], ids=str)
def test_a_gemm_with_any_bias_and_factors(
    spec: str, transposed: int, bias: tuple[int, ...] | None, factors: dict[str, float]
) -> None:
    assert sqnr_db(gemm(transposed, bias, **factors), spec) > numerics.INT8_SQNR_DB


@pytest.mark.parametrize("spec", ALL)
def test_a_gemm_whose_factor_cannot_be_folded(spec: str) -> None:
    net = Net(4)
    net.node("Gemm", "x", net.weight(8, 4), net.node("ReduceMean", "x", keepdims=1), beta=0.25, out="y")
    assert sqnr_db(net.model([ROWS], [CLASSES], opset=13), spec) > numerics.INT8_SQNR_DB


@pytest.mark.parametrize("spec", ALL)
def test_layers_that_share_a_bias_and_differ_in_scale(spec: str) -> None:
    net = Net(5)
    bias = net.weight(8)
    small = net.node("Mul", "x", net.const(np.float32(0.01)))
    one, two = (net.node("Gemm", x, net.weight(8, 8), bias) for x in ("x", small))
    net.node("Sub", two, net.node("Mul", one, net.const(np.float32(1e-3))), out="y")
    model = net.model([ROWS], [("y", 1, ["batch", 8])], opset=13)
    assert sqnr_db(model, spec) > numerics.INT8_SQNR_DB


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("order", [0, 1])
def test_a_weight_that_is_read_along_different_axes(spec: str, order: int) -> None:
    net = Net(5)
    # Rows and columns of such different sizes that scales along the wrong axis would ruin the product.
    table = net.const((net.rng.standard_normal((8, 8)) * 10.0 ** np.arange(-3, 5)[:, None] / 1e4).astype(np.float32))
    readers = [
        lambda: net.node("MatMul", "x", table),
        lambda: net.node("Gemm", "x", table, transB=1),
        lambda: net.node("ReduceMean", net.node("Gather", table, net.ints(6, 7)), axes=[0], keepdims=0),
    ]
    values = [reader() for reader in (readers if order else readers[::-1])]
    rows = values.pop(2 if order else 0)
    net.node("Concat", *(net.node("Add", v, rows) for v in values), axis=-1, out="y")
    model = net.model([ROWS], [("y", 1, ["batch", 16])], opset=13)
    assert sqnr_db(model, spec) > numerics.INT8_SQNR_DB


def relu_after_transpose() -> ir.Model:
    return builders.BUILDERS["nhwc"]()


def relu_beside_another_reader() -> ir.Model:
    net = Net(6)
    inner = net.conv("x", 3, 8)
    net.pool_fc(net.node("Concat", net.node("Relu", inner), inner, axis=1), 16, 4)
    return net.model([IMAGE], [CLASSES], opset=13)


def relu_after_pooling() -> ir.Model:
    net = Net(7)
    pooled = net.node("MaxPool", net.conv("x", 3, 8), kernel_shape=[2, 2])
    net.pool_fc(net.conv(net.node("Relu", pooled), 8, 8), 8, 4)
    return net.model([IMAGE], [CLASSES], opset=13)


def clip(low: float, high: float) -> ir.Model:
    net = Net(8)
    clipped = net.node("Clip", net.conv("x", 3, 8), net.const(np.float32(low)), net.const(np.float32(high)))
    net.pool_fc(net.node("Relu", net.conv(clipped, 8, 8)), 8, 4)
    return net.model([IMAGE], [CLASSES], opset=13)


CLAMPED: dict[str, Callable[[], ir.Model]] = {
    "relu_after_transpose": relu_after_transpose,
    "relu_beside_another_reader": relu_beside_another_reader,
    "relu_after_pooling": relu_after_pooling,
    "clip_at_six": lambda: clip(0, 6),
    "clip_above_zero": lambda: clip(0.5, 2),
    "clip_below_zero": lambda: clip(-2, -0.5),
    "clip_around_zero": lambda: clip(-0.3, 0.4),
}


@pytest.mark.parametrize("optimized", [False, True], ids=["plain", "optimized"])
@pytest.mark.parametrize("spec", STATIC)
@pytest.mark.parametrize("name", CLAMPED)
def test_an_activation_is_not_lost(name: str, spec: str, optimized: bool) -> None:
    assert sqnr_db(CLAMPED[name](), spec, optimized) > numerics.INT8_SQNR_DB


def _quantized_input(low: float, high: float, activation: str) -> tuple[float, int, np.dtype]:
    net = Net(9)
    net.node("MatMul", "x", net.weight(8, 4), out="y")
    model = net.model([ROWS], [CLASSES], opset=13)
    options = StaticOptions("qdq", activation, "int8", True, False, ("MatMul",), ())
    result = ort_bridge.quantize_static(model, {"x": Range(low, high), "y": Range(-1, 1)}, options).model
    node = next(n for n in result.graph if n.op_type == "QuantizeLinear" and n.inputs[0].name == "x")
    scale, zero = (v.const_value.numpy() for v in node.inputs[1:])
    return float(scale), int(zero), zero.dtype


@settings(max_examples=40)
@given(
    st.floats(-1e6, 0, width=32),
    st.floats(0, 1e6, width=32),
    st.sampled_from(["uint8", "int8"]),
    st.integers(0, 2**16),
)
def test_the_rounding_error_is_at_most_half_a_step(low: float, high: float, activation: str, seed: int) -> None:
    if high - low < 1e-6:
        high = 1e-6
    scale, zero, dtype = _quantized_input(low, high, activation)
    info = np.iinfo(dtype)
    values = np.random.RandomState(seed).uniform(low, high, 500)
    values[:3] = low, high, 0
    grid = np.clip(np.round(values / scale) + zero, info.min, info.max)
    error = np.abs((grid - zero) * scale - values)
    slack = numerics.ROUNDING_SLACK * scale
    # Zero points are whole numbers, which moves the grid by up to half a step: the end of the range may be clipped.
    interior = (values >= (info.min - zero) * scale) & (values <= (info.max - zero) * scale)
    assert error[interior].max() <= scale / 2 + slack
    assert error.max() <= scale + slack
    assert error[2] == 0


def test_the_source_stays_as_it_is() -> None:
    for name in ("gemm_mlp", "shared_weights", "residual_cnn"):
        model = builders.BUILDERS[name]()
        before = to_bytes(model)
        sqnr_db(model, "quantize-static")
        ort_bridge.fuse(model, ["gelu", "layernorm"])
        assert to_bytes(model) == before


@pytest.mark.parametrize("name", ["lstm", "gru", "gemm_mlp", "shared_weights", "transformer_17"])
def test_weights_that_are_lent_come_back_as_they_were(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime changes the shapes of an LSTM's weights in place: they are those of the user's model."""
    monkeypatch.setattr(ort_bridge, "_UNREAD_BYTES", 0)
    monkeypatch.setattr(light, "LARGE_BYTES", 0)  # of smaller ones, type inference makes copies
    model = from_bytes(to_bytes(builders.BUILDERS[name]()))
    before, options = to_bytes(model), DynamicOptions("int8", True, False, ("MatMul", "Gemm", "LSTM"), ())
    first = to_bytes(ort_bridge.quantize_dynamic(model, options).model)
    assert to_bytes(model) == before
    assert to_bytes(ort_bridge.quantize_dynamic(model, options).model) == first


@pytest.mark.parametrize("name", ["residual_cnn", "nested_capture", "transformer_17", "lstm"])
def test_weights_that_no_dynamic_operator_reads_are_not_copied(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large convolutional network the runtime's tools would hold three more copies of all its weights."""
    options = DynamicOptions("int8", True, False, ("MatMul", "Gemm", "LSTM"), ())
    model = builders.BUILDERS[name]()
    plain = ort_bridge.quantize_dynamic(model, options).model
    monkeypatch.setattr(ort_bridge, "_UNREAD_BYTES", 0)
    monkeypatch.setattr(ort_bridge, "IN_MEMORY_BYTES", 0)
    lent = list[str]()

    class Watched(operators.OperatorQuantizer):
        def __init__(self, *arguments: Any, weights: Mapping[str, ir.TensorProtocol], **more: Any) -> None:
            lent.extend(weights)
            super().__init__(*arguments, weights=weights, **more)

    monkeypatch.setattr(operators, "OperatorQuantizer", Watched)
    made = ort_bridge.quantize_dynamic(model, options).model
    kinds = {n: {node.op_type for node, _ in value.uses()} for n, value in model.graph.initializers.items()}
    convolved = [weight for weight, found in kinds.items() if found == {"Conv"}]
    assert (len(convolved) > 2) == (name == "residual_cnn")
    assert lent
    assert not set(lent) & set(convolved)
    for weight in convolved:
        ours, theirs = (one.graph.initializers[weight].const_value for one in (made, model))
        assert ours is not None
        assert theirs is not None
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    feeds = dict(next(iter(builders.samples_of(model).with_batch_size(1))))
    for ours, theirs in zip(builders.run(made, feeds), builders.run(plain, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("spec", [*ALL, "simplify"])
@pytest.mark.parametrize("name", ["nested_capture", "if_branches", "loop", "transformer_17"])
def test_a_graph_is_read_back_in_order(name: str, spec: str, caplog: pytest.LogCaptureFixture) -> None:
    assert sqnr_db(builders.BUILDERS[name](), spec) > numerics.INT8_SQNR_DB
    assert not caplog.records, "onnx-ir complains about values that it cannot find"


def test_missing_ranges_are_reported() -> None:
    net = Net(9)
    net.node("MatMul", "x", net.weight(8, 4), out="y")
    with pytest.raises(NativeError, match="ONX402") as caught:
        ort_bridge.quantize_static(net.model([ROWS], [CLASSES], opset=13), {}, OPTIONS)
    assert "\n" not in str(caught.value)


def test_dynamic_quantization_leaves_no_shapes_that_the_runtime_would_merge_by() -> None:
    model = builders.BUILDERS["transformer_17"]()
    made = Pipeline(parse("quantize-dynamic")).run(model, Context(detect())).model
    inner = [v for n in made.graph for v in n.outputs if not v.is_graph_output()]
    assert len(inner) > 10
    assert not [v.name for v in inner if v.shape is not None or v.type is not None]
    assert all(v.shape is not None for v in made.graph.outputs)


def test_patterns_begin_where_the_runtime_looks_for_them() -> None:
    from onnxruntime.transformers.fusion_gelu import FusionGelu
    from onnxruntime.transformers.fusion_layernorm import FusionLayerNormalization
    from onnxruntime.transformers.onnx_model import OnnxModel

    empty = OnnxModel(to_proto(builders.BUILDERS["gemm_mlp"]()))
    fusions = {"gelu": FusionGelu(empty), "layernorm": FusionLayerNormalization(empty)}
    assert {name: [op] for name, op in ort_bridge.FUSED_FROM.items()} == {
        name: one.search_op_types for name, one in fusions.items()
    }
