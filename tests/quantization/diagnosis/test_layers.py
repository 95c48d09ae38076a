"""Diagnosis: the layer that was spoilt comes first, and what runs in float is told."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.graph.edit import set_weight
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.diagnosis.layers import LayerLoss, diagnose, worst
from onnxopt.target import target_of
from tests import builders, numerics


def pair(name: str, options: str = "") -> tuple[ir.Model, ir.Model]:
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=16))
    before = Pipeline(parse("simplify")).run(model, context).model
    return before, Pipeline(parse(f"quantize-static{options}")).run(before, context).model


def diagnosed(before: ir.Model, after: ir.Model) -> tuple[LayerLoss, ...]:
    return diagnose(before, after, builders.samples_of(before).with_batch_size(1))


def spoil(model: ir.Model, layer: str) -> None:
    """Halve the scales of a layer's weights, and of its bias: with others there the runtime computes it in float."""
    node = next(n for n in model.graph if n.name == layer)
    for value in node.inputs[1:]:
        dequantize = None if value is None else value.producer()
        assert dequantize is not None
        scale = dequantize.inputs[1]
        assert scale is not None
        assert scale.const_value is not None
        set_weight(scale, scale.const_value.numpy() / np.float32(2))


@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_separable", "gemm_mlp", "nhwc"])
def test_every_layer_that_was_spoilt_is_found(name: str) -> None:
    before, after = pair(name)
    layers = [loss.name for loss in diagnosed(before, after) if loss.op_type in ("Conv", "Gemm")]
    assert len(layers) >= 2
    for layer in layers:
        spoilt = after.clone()
        spoil(spoilt, layer)
        found = diagnosed(before, spoilt)
        assert worst(found, 1) == (layer,)
        others = [loss.own_db for loss in found if loss.name != layer]
        # Alone, the others do not suffer from what comes before them.
        assert min(others) > numerics.INT8_SQNR_DB


def test_the_last_layer_hears_all_before_it() -> None:
    before, after = pair("residual_cnn")
    first = next(n.name for n in after.graph if n.op_type == "Conv")
    healthy = {loss.name: loss for loss in diagnosed(before, after)}
    spoil(after, first or "")
    spoilt = {loss.name: loss for loss in diagnosed(before, after)}
    last = next(name for name in healthy if healthy[name].op_type == "Gemm")
    assert spoilt[last].total_db < healthy[last].total_db - 3
    assert spoilt[last].own_db == pytest.approx(healthy[last].own_db)


def test_layers_in_float_are_last_and_reported() -> None:
    before, after = pair("residual_cnn", "{exclude=[Conv_0]}")
    found = diagnosed(before, after)
    kept = next(loss for loss in found if loss.name == "Conv_0")
    assert not kept.quantized
    assert kept.state
    assert np.isnan(kept.own_db)
    assert found[-1].name == "Conv_0"
    assert "Conv_0" not in worst(found, 100)
    assert all(loss.quantized for loss in found[:-1])


def test_excluded_layers_are_float_in_the_graph_that_runs() -> None:
    _, after = pair("residual_cnn", "{exclude=[Conv_0]}")
    node = next(n for n in after.graph if n.name == "Conv_0")
    assert all(v is None or v.producer() is None or v.producer().op_type != "DequantizeLinear" for v in node.inputs)  # type: ignore[union-attr]
    assert node.inputs[1] is not None
    assert node.inputs[1].dtype is ir.DataType.FLOAT


def test_the_same_model_has_no_int8_layer() -> None:
    before, _ = pair("gemm_mlp")
    found = diagnosed(before, before.clone())
    assert found
    assert not any(loss.quantized for loss in found)
    assert {loss.total_db for loss in found} == {np.inf}
    assert worst(found, 3) == ()


def test_dynamic_quantization_can_be_diagnosed() -> None:
    before, _ = pair("gemm_mlp")
    context = Context(target_of("x86-vnni"), builders.samples_of(before))
    after = Pipeline(parse("quantize-dynamic")).run(before, context).model
    found = diagnosed(before, after)
    assert any(loss.quantized for loss in found)


def padded(model: ir.Model) -> ir.Model:
    """Add NaN to the first number of each row of the output, as attention does where a row is all padding."""
    output = model.graph.outputs[0]
    assert output.shape is not None
    mask = np.zeros((1, int(output.shape[-1])), np.float32)  # type: ignore[arg-type]
    mask[0, 0] = np.nan
    weight = ir.Value(name="padding", const_value=ir.tensor(mask), shape=ir.Shape(mask.shape))
    weight.type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.initializers["padding"] = weight
    node = ir.Node("", "Add", [output, weight], name="pad", outputs=[ir.Value(name="padded", type=output.type)])
    node.outputs[0].shape = output.shape
    model.graph.append(node)
    model.graph.outputs[0] = node.outputs[0]
    return model


@pytest.mark.filterwarnings("error")
def test_padding_that_is_nan_hides_no_layer() -> None:
    before, after = pair("gemm_mlp")
    plain = {loss.name: loss for loss in diagnosed(before, after)}
    found = {loss.name: loss for loss in diagnosed(padded(before.clone()), padded(after.clone()))}
    first = next(name for name, loss in plain.items() if loss.op_type == "Gemm" and not np.isnan(loss.output_db))
    assert np.isfinite(found[first].output_db)
    assert abs(found[first].output_db - plain[first].output_db) < 10
