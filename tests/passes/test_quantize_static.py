"""Static quantization: what it asks, what it reuses, what it gives."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import ModelError, UsageError
from onnxopt.passes import quantize_static
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization.calibration import ranges
from onnxopt.target import TARGETS, target_of
from tests import builders, numerics


def quantized(spec: str, name: str = "residual_cnn", context: Context | None = None) -> Optimized:
    model = builders.BUILDERS[name]()
    context = context or Context(target_of("x86-vnni"), builders.samples_of(model))
    return Pipeline(parse(spec)).run(model, context)


def weight_types(model: ir.Model) -> set[str]:
    weights = {v.const_value for v in model.graph.initializers.values() if "quantized" in (v.name or "")}
    return {t.dtype.name for t in weights if t is not None and len(t.shape) > 1}


def activation_types(model: ir.Model) -> set[str]:
    zeros = (n.inputs[2] for n in model.graph if n.op_type == "QuantizeLinear")
    return {z.const_value.dtype.name for z in zeros if z is not None and z.const_value is not None}


@pytest.mark.parametrize("name", TARGETS)
def test_types_follow_the_target(name: str) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    target = target_of(name)
    result = quantized("quantize-static", context=Context(target, builders.samples_of(model))).model
    assert weight_types(result) == {target.weight_type.upper()}
    assert activation_types(result) == {target.activation_type.upper()}


def test_types_can_be_chosen() -> None:
    result = quantized("quantize-static{activation_type=int8,weight_type=uint8}").model
    assert weight_types(result) == {"UINT8"}
    assert activation_types(result) == {"INT8"}


@pytest.mark.parametrize(("per_channel", "scales"), [("true", 8), ("false", 1)])
def test_scales_per_channel(per_channel: str, scales: int) -> None:
    model = quantized(f"quantize-static{{per_channel={per_channel}}}").model
    conv = next(n for n in model.graph if n.op_type == "Conv")
    assert conv.inputs[1] is not None
    dequantize = conv.inputs[1].producer()
    assert dequantize is not None
    scale = dequantize.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    assert scale.const_value.size == scales


def test_excluded_layers_stay_as_they_are() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    result = quantized("quantize-static{exclude=[Conv_0,Gemm_12]}")
    assert {s.target: s.reason for s in result.steps[0].skipped} == {"Conv_0": "excluded", "Gemm_12": "excluded"}
    kept = next(n for n in result.model.graph if n.name == "Conv_0")
    weight, original = kept.inputs[1], model.graph.node(0).inputs[1]
    assert weight is not None
    assert original is not None
    assert weight.const_value is not None
    assert original.const_value is not None
    np.testing.assert_array_equal(weight.const_value.numpy(), original.const_value.numpy())


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("quantize-static{exclude=[Conv_00]}", "'Conv_0'"),
        ("quantize-static{op_types=[Convolution]}", "Conv"),
        ("quantize-dynamic{exclude=[Conv_00]}", "'Conv_0'"),
    ],
)
def test_names_that_are_not_there_are_refused(spec: str, hint: str) -> None:
    with pytest.raises(UsageError, match="ONX102") as caught:
        quantized(spec)
    assert hint in str(caught.value)


def test_no_more_samples_are_read_than_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(ranges, "extremes", lambda model, names, samples, **_: seen.append(len(samples)) or {})
    quantized("quantize-static{samples=3},quantize-static")
    assert seen == [3, 8]


def test_one_calibration_serves_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    real, calls = ranges.extremes, []
    monkeypatch.setattr(ranges, "extremes", lambda *args, **more: calls.append(1) or real(*args, **more))
    for spec in ("", "{method=entropy}", "{method=mse}", "{exclude=[Conv_0]}", "{per_channel=false}"):
        quantized(f"quantize-static{spec}", context=context)
    assert len(calls) == 1
    quantized("quantize-static{samples=4}", context=context)
    assert len(calls) == 2


def test_an_opset_that_cannot_be_raised_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: ir.Model, minimum: int) -> ir.Model:
        raise ModelError("ONX307", "the opset cannot be raised", why="outputs differ")

    monkeypatch.setattr(quantize_static.model_file, "upgrade_opset", fail)
    (step,) = quantized("quantize-static").steps
    assert [s.reason for s in step.skipped] == ["the opset cannot be raised: outputs differ"]


def test_more_clipping_loses_more() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    feeds = next(iter(builders.samples_of(model)))
    expected = builders.run(model, dict(feeds))[0]
    found = [
        numerics.sqnr_db(expected, builders.run(quantized(spec).model, dict(feeds))[0])
        for spec in ("quantize-static", "quantize-static{method=percentile,percentile=60}")
    ]
    assert found[0] > numerics.INT8_SQNR_DB > found[1]


def test_layers_behind_operators_of_unknown_type_are_quantized() -> None:
    net = builders.Net(6)
    scaled = net.node("Scaler", "x", domain="ai.onnx.ml", offset=[0.0] * 8, scale=[0.5] * 8)
    hidden = net.node("Relu", net.node("MatMul", scaled, net.weight(8, 8), name="first"))
    net.node("MatMul", hidden, net.weight(8, 4), name="second", out="y")
    model = net.model([builders.ROWS], [builders.CLASSES], opset=15, domains=[("ai.onnx.ml", 1)])
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    result = Pipeline(parse("quantize-static")).run(model, context)
    assert {edit.target for edit in result.steps[0].edits} >= {"first", "second"}
    feeds = builders.feeds_of(model)
    (before,), (after,) = builders.run(model, feeds), builders.run(result.model, feeds)
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB


def test_wide_activations_lose_less_and_say_that_they_cost_time() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    names = [n.name or "" for n in model.graph if n.op_type == "Conv"]
    plain, wide = (
        Pipeline(parse(f"quantize-static{{int16_activations=[{','.join(some)}]}}" if some else "quantize-static")).run(
            model, context
        )
        for some in ([], names)
    )
    assert activation_types(plain.model) == {"UINT8"}
    assert "UINT16" in activation_types(wide.model)
    assert weight_types(wide.model) == {"INT8"}
    actions = {e.target: e.action for e in wide.steps[0].edits}
    assert all("16-bit activations, computed in float" in actions[name] for name in names)
    feeds = builders.feeds_of(model)
    exact, *both = (builders.run(m, feeds)[0] for m in (model, plain.model, wide.model))
    assert numerics.sqnr_db(exact, both[1]) > numerics.sqnr_db(exact, both[0]) + 3


def test_wide_activations_need_qdq_and_known_names() -> None:
    with pytest.raises(UsageError, match="ONX112"):
        quantized("quantize-static{int16_activations=[x],form=qoperator}")
    with pytest.raises(UsageError, match="ONX102"):
        quantized("quantize-static{int16_activations=[nobody]}")


@pytest.mark.parametrize(("target", "pads"), [("x86-vnni", 1), ("arm64-dotprod", 0)])
@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_a_picture_gets_a_fourth_channel_on_x86(target: str, pads: int, form: str) -> None:
    net = builders.Net(4)
    net.node("Relu", net.conv("x", 3, 16), out="y")
    model = net.model([builders.IMAGE], [("y", builders.F, None)])
    context = Context(target_of(target), builders.samples_of(model))
    result = Pipeline(parse(f"quantize-static{{form={form}}}")).run(model, context)
    assert [n.op_type for n in result.model.graph].count("Pad") == pads
    assert sum("zeros added" in edit.action for edit in result.steps[0].edits) == pads
