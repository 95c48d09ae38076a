"""Correction of channels: factors and shifts come back, scale and bias carry them, and the better model is kept."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.graph.edit import set_weight
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization.closeness import Closeness
from onnxopt.quantization.equalization import channel_correction
from onnxopt.quantization.equalization.channel_correction import PairedSums, correct_channels, correct_if_closer
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders, numerics

NAMES = ("residual_cnn", "depthwise_separable", "gemm_mlp", "transformer_17")


def base(name: str) -> ir.Model:
    return Pipeline(parse("simplify")).run(builders.BUILDERS[name](), Context(target_of("x86-vnni"))).model


def samples_of(model: ir.Model) -> Samples:
    return builders.samples_of(model, count=100).with_batch_size(1)


def quantized(model: ir.Model, options: str = "") -> Optimized:
    context = Context(target_of("x86-vnni"), samples_of(model))
    return Pipeline(parse(f"quantize-static{{{options}}}")).run(model, context)


def weight_scales(model: ir.Model) -> dict[str, ir.Value]:
    """Return the scales of the weights of layers, one for each channel, by layer."""
    found = {}
    for node in model.graph:
        producer = node.inputs[1].producer() if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if node.op_type in ("Conv", "Gemm", "MatMul") and producer is not None:
            scale = producer.inputs[1]
            if scale is not None and scale.const_value is not None and scale.const_value.size > 1:
                found[node.name or ""] = scale
    return found


def test_moments_give_the_line_that_least_squares_gives() -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((500, 3)) * [1, 20, 0.1] + [0, 5, -1]
    y = q * [1.2, 0.9, 1.5] + [0.3, -2, 0] + 0.01 * rng.standard_normal((500, 3))
    moments = PairedSums()
    for part in range(5):
        moments.add(y[100 * part : 100 * (part + 1)], q[100 * part : 100 * (part + 1)])
    factors, shifts = moments.fit(factor=True, shift=True)
    for channel in range(3):
        line = np.polyfit(q[:, channel], y[:, channel], 1)
        np.testing.assert_allclose([factors[channel], shifts[channel]], line, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(moments.error(factors, shifts), np.mean((q * factors + shifts - y) ** 2), rtol=1e-6)
    alone, zero = moments.fit(factor=True, shift=False)
    np.testing.assert_allclose(alone, np.sum(q * y, 0) / np.sum(q * q, 0))
    assert not zero.any()
    ones, means = moments.fit(factor=False, shift=True)
    np.testing.assert_allclose(means, y.mean(0) - q.mean(0))
    assert (ones == 1).all()


def test_a_channel_that_does_not_vary_keeps_its_factor() -> None:
    moments = PairedSums()
    moments.add(np.full((50, 1), 3.0), np.full((50, 1), 2.0))
    factors, shifts = moments.fit(factor=True, shift=True)
    assert factors == [1.0]
    np.testing.assert_allclose(shifts, [1.0])


@pytest.mark.parametrize("name", NAMES)
def test_scales_that_are_off_come_back(name: str) -> None:
    model = base(name)
    off = quantized(model).model
    scales = weight_scales(off)
    assert scales
    rng, right = np.random.default_rng(1), {}
    for layer, scale in scales.items():
        assert scale.const_value is not None
        right[layer] = scale.const_value.numpy().copy()
        set_weight(scale, (right[layer] * rng.uniform(0.8, 1.25, right[layer].shape)).astype(np.float32))
    assert correct_channels(off, model, samples_of(model)).keys() >= scales.keys() - {"nothing"}
    for layer, scale in weight_scales(off).items():
        assert scale.const_value is not None
        ratio = scale.const_value.numpy() / right[layer]
        assert np.median(np.abs(ratio - 1)) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_outputs_come_closer_where_much_is_clipped(name: str) -> None:
    model = base(name)
    clipping = "method=percentile,percentile=97"
    plain, corrected = (quantized(model, f"{clipping},correct_channels={flag}") for flag in ("false", "true"))
    samples = samples_of(model)
    closeness = Closeness(model, samples.select(samples.indices[48:]))  # layers are fitted to the others
    before, after = closeness.db(plain.model), closeness.db(corrected.model)
    done = [e for e in corrected.steps[-1].edits if "channels corrected" in e.action]
    said = [s for s in corrected.steps[-1].skipped if "dB without" in s.reason]
    assert after > before if done else (after == before and said)
    assert done or name in ("gemm_mlp", "transformer_17")


@pytest.mark.parametrize("name", NAMES)
def test_only_scales_of_weights_and_biases_change_and_the_runtime_agrees_with_the_graph(name: str) -> None:
    model = base(name)
    clipping = "method=percentile,percentile=97"
    plain, corrected = (
        quantized(model, f"{clipping},{option}=true").model for option in ("correct_bias", "correct_channels")
    )
    assert [n.op_type for n in plain.graph] == [n.op_type for n in corrected.graph]
    changed = {
        key
        for key, value in plain.graph.initializers.items()
        if value.const_value is not None
        and not np.array_equal(value.const_value.numpy(), corrected.graph.initializers[key].const_value.numpy())  # type: ignore[union-attr]
    }
    assert changed
    kinds = {corrected.graph.initializers[key].const_value.dtype for key in changed}  # type: ignore[union-attr]
    assert kinds <= {ir.DataType.INT32, ir.DataType.FLOAT}
    # Fused integer kernels take the scale of a bias to be that of its products.
    for feeds in samples_of(model).take(4):
        exact, fused = (builders.run(corrected, dict(feeds), optimized=flag)[0] for flag in (False, True))
        assert numerics.sqnr_db(exact, fused) > numerics.INT8_SQNR_DB


def test_it_is_undone_where_the_outputs_are_no_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = base("residual_cnn")
    made = quantized(model).model
    before = {k: v.const_value.numpy().copy() for k, v in made.graph.initializers.items() if v.const_value is not None}

    def ruined(quantized: ir.Model, model: ir.Model, samples: Samples, *, factors: bool) -> dict[str, float]:
        (scale, *_) = weight_scales(quantized).values()
        assert scale.const_value is not None
        set_weight(scale, 3 * scale.const_value.numpy())
        return {"layer": 0.5}

    monkeypatch.setattr(channel_correction, "correct_channels", ruined)
    done, why = correct_if_closer(made, model, samples_of(model), samples_of(model))
    assert not done
    assert "dB without" in why
    for key, array in before.items():
        np.testing.assert_array_equal(made.graph.initializers[key].const_value.numpy(), array)  # type: ignore[union-attr]


def test_a_layer_whose_error_is_chance_on_samples_held_out_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = base("residual_cnn")
    made = quantized(model).model
    monkeypatch.setattr(channel_correction, "_BETTER", 0.0)
    before = {k: v.const_value for k, v in made.graph.initializers.items()}
    assert correct_channels(made, model, samples_of(model)) == {}
    assert all(made.graph.initializers[k].const_value is tensor for k, tensor in before.items())


def test_with_one_scale_per_weight_a_shift_comes_back_and_scales_stay() -> None:
    model = base("residual_cnn")
    off = quantized(model, "per_channel=false").model
    layers = [n for n in off.graph if n.op_type == "Conv"]
    stored = [n.inputs[2].producer().inputs[0] for n in layers]  # type: ignore[union-attr]
    right = [value.const_value.numpy().copy() for value in stored]  # type: ignore[union-attr]
    scales = [n.inputs[1].producer().inputs[1].const_value for n in layers]  # type: ignore[union-attr]
    for value, integers in zip(stored, right, strict=True):
        set_weight(value, integers + np.int32(2000))  # type: ignore[arg-type]
    assert correct_channels(off, model, samples_of(model)).keys() >= {n.name for n in layers}
    for value, integers in zip(stored, right, strict=True):
        assert np.abs(value.const_value.numpy() - integers).max() < 200  # type: ignore[union-attr]
    assert [n.inputs[1].producer().inputs[1].const_value for n in layers] == scales  # type: ignore[union-attr]


def test_the_operator_form_is_reported() -> None:
    result = quantized(base("gemm_mlp"), "correct_channels=true,form=qoperator")
    assert any("form=qdq" in s.reason for s in result.steps[-1].skipped)
