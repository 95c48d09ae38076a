"""Integers of a QDQ model chosen again: never worse on what the layers read, and inside the same limits."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.graph.weights.quantized import dequantized, quantized_weights
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization.rounding.gptq import error_of, gptq_on_grid
from onnxopt.quantization.rounding.hessians import Read, at_most, hessians, sweeps
from onnxopt.quantization.rounding.saturation import reduced
from onnxopt.samples import Samples, open_samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.quantization.rounding.saturating import bound


def correlated(model: ir.Model, count: int = 24) -> Samples:
    """Return pictures whose neighbouring pixels and channels are alike, as in the world."""
    rng = np.random.default_rng(0)
    value = model.graph.inputs[0]
    assert value.shape is not None
    shape = tuple(int(d) if isinstance(d, int) else 1 for d in value.shape)[1:]
    x = rng.standard_normal((count, *shape))
    for axis in range(1, x.ndim):
        x = x + np.roll(x, 1, axis) + np.roll(x, 2, axis)
    return open_samples({value.name or "": x.astype(np.float32)}, signature_of(model))


def made(spec: str, builder: str = "residual_cnn", target: str = "x86-vnni") -> tuple[ir.Model, Samples, Optimized]:
    model = builders.BUILDERS[builder]()
    samples = correlated(model)
    return model, samples, Pipeline(parse(spec)).run(model, Context(target_of(target), samples))


def integers(model: ir.Model) -> dict[str, np.ndarray]:
    found = {}
    for weight in quantized_weights(model):
        stored = model.graph.initializers[weight.name].const_value
        assert stored is not None
        if not weight.factors:
            found[weight.name] = stored.numpy()
    return found


def test_every_layer_that_is_rounded_anew_loses_less() -> None:
    _, _, plain = made("quantize-static")
    _, _, fitted = made("quantize-static{rounding=gptq}")
    said = {e.target: e.action for e in fitted.steps[0].edits if e.action.startswith("GPTQ rounding")}
    assert "Conv_0" in said
    left = {s.target for s in fitted.steps[0].skipped if "samples held out" in s.reason}
    assert said.keys() | left >= {"Conv_0", "Gemm_12"}
    before, after = integers(plain.model), integers(fitted.model)
    assert before.keys() == after.keys()
    assert sum((before[name] != after[name]).any() for name in before) == len(said)


@pytest.mark.parametrize(("outputs", "features"), [(8, 27), (16, 200)])
def test_on_a_known_grid_the_outputs_lose_less_on_other_inputs_too(outputs: int, features: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 12)) @ rng.standard_normal((12, features)) + 0.1 * rng.standard_normal(features)
    weight = rng.standard_normal((outputs, features))
    scale, largest = np.abs(weight).max(1) / 15, np.full(outputs, 15)
    found = gptq_on_grid(weight, x[:1000].T @ x[:1000], scale, largest)
    nearest = np.rint(weight / scale[:, None])
    assert np.abs(found).max() <= 15
    other = x[1000:].T @ x[1000:]
    errors = [error_of(integers * scale[:, None] - weight, other) for integers in (found, nearest)]
    assert errors[0] < 0.5 * errors[1]
    np.testing.assert_array_equal(gptq_on_grid(weight, np.eye(features), scale, largest), nearest)


def test_scales_stay_and_no_weight_leaves_its_limits() -> None:
    _, _, plain = made("quantize-static{reduce_range=yes}")
    _, _, fitted = made("quantize-static{reduce_range=yes,rounding=gptq}")
    for array in integers(fitted.model).values():
        assert array.dtype == np.int8
        assert np.abs(array.astype(int)).max() <= 64
    for weight in quantized_weights(plain.model):
        one, other = (m.graph.initializers[weight.scale].const_value for m in (plain.model, fitted.model))
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert dequantized(fitted.model, weight).shape == dequantized(plain.model, weight).shape


def test_no_pair_saturates_on_a_processor_without_vnni() -> None:
    _, _, fitted = made("quantize-static{rounding=gptq}", target="x86-avx2")
    assert any(e.action.startswith("GPTQ rounding") for e in fitted.steps[0].edits)
    stored = integers(fitted.model)
    seen = 0
    for weight in quantized_weights(fitted.model):
        if weight.name not in stored or -1 not in weight.shape:
            continue
        rows = np.moveaxis(stored[weight.name], weight.shape.index(-1), 0)
        assert not bound(reduced(rows) if rows.ndim > 2 else rows).saturates
        seen += 1
    assert seen > 1


def test_same_samples_same_bytes() -> None:
    first, second = (made("quantize-static{rounding=gptq}")[2].model for _ in range(2))
    assert to_bytes(first) == to_bytes(second)


def test_only_pairs_of_conversions_can_be_rounded_anew() -> None:
    with pytest.raises(UsageError, match="ONX112"):
        made("quantize-static{rounding=gptq,form=qoperator}")


def test_layers_are_read_in_groups_that_fit_into_memory() -> None:
    reads = [Read(str(i), (), features, lambda arrays: arrays["x"]) for i, features in enumerate((10, 10, 40, 5, 5))]
    groups = [[read.layer for read in group] for group in sweeps(reads, limit_bytes=2 * 8 * 100)]
    assert groups == [["0", "1"], ["2"], ["3", "4"]]


def test_moments_are_means_over_all_rows_and_leave_out_what_is_not_finite() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples = correlated(model, 6)
    name = model.graph.inputs[0].name or ""

    def rows(arrays: dict[str, np.ndarray]) -> np.ndarray:
        found = np.moveaxis(arrays[name], 1, -1).reshape(-1, arrays[name].shape[1]).copy()
        found[0] = np.nan
        return found

    width = next(iter(samples))[name].shape[1]
    found = hessians(model, [Read("first", (name,), width, rows)], samples)["first"]
    batches = [rows({name: np.asarray(f[name])}) for f in samples]
    kept = np.concatenate([b[np.isfinite(b).all(1)] for b in batches])
    np.testing.assert_allclose(found, kept.T @ kept / len(kept), rtol=numerics.EXACT_RELATIVE, atol=1e-6)
    assert len(at_most(kept, 5)) == 5
