"""Bias correction: mean outputs come back, layer by layer, and nothing but biases changes."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.measure.runtime.activations import Activations
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization.diagnosis.matching import counterparts
from onnxopt.target import target_of
from tests import builders


def quantized(model: ir.Model, options: str) -> Optimized:
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=16))
    return Pipeline(parse(f"simplify,quantize-static{{{options}}}")).run(model, context)


def outputs_of_layers(model: ir.Model) -> list[str]:
    return [n.outputs[0].name or "" for n in model.graph if n.op_type in ("Conv", "Gemm")]


def mean_errors(before: ir.Model, after: ir.Model, names: list[str]) -> dict[str, float]:
    """Return the largest error of a channel's mean on the calibration samples, by value."""
    samples = builders.samples_of(before, count=16).with_batch_size(1)
    errors, source = {}, counterparts(after, before)
    for name in names:
        means = []
        for model, value in ((before, source[name]), (after, name)):
            runs = [a[value] for a in Activations(model, [value]).of(samples)]
            means.append(np.mean([np.moveaxis(a, 1, -1).reshape(-1, a.shape[1]).mean(0) for a in runs], 0))
        errors[name] = float(np.abs(means[0] - means[1]).max())
    return errors


@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_separable", "gemm_mlp", "nhwc"])
def test_mean_errors_get_smaller(name: str) -> None:
    model = builders.BUILDERS[name]()
    base = Pipeline(parse("simplify")).run(model, Context(target_of("x86-vnni"))).model
    # Percentiles that clip a lot move the means a lot.
    clipping = "method=percentile,percentile=97"
    plain, corrected = (quantized(model, f"{clipping},correct_bias={flag}") for flag in ("false", "true"))
    names = outputs_of_layers(plain.model)
    assert names == outputs_of_layers(corrected.model)
    worse, better = (mean_errors(base, m.model, names) for m in (plain, corrected))
    done = [e for e in corrected.steps[-1].edits if "bias corrected" in e.action]
    assert done
    assert sum(better.values()) < sum(worse.values()) / 4


def test_only_biases_change() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    plain, corrected = (quantized(model, f"correct_bias={flag}").model for flag in ("false", "true"))
    assert [n.op_type for n in plain.graph] == [n.op_type for n in corrected.graph]
    changed = {
        name
        for name, value in plain.graph.initializers.items()
        if value.const_value is not None
        and not np.array_equal(value.const_value.numpy(), corrected.graph.initializers[name].const_value.numpy())  # type: ignore[union-attr]
    }
    assert changed
    kinds = {corrected.graph.initializers[name].const_value.dtype for name in changed}  # type: ignore[union-attr]
    assert kinds == {ir.DataType.INT32}


def test_a_layer_without_a_bias_gets_one() -> None:
    model = builders.BUILDERS["depthwise_separable"]()
    for node in model.graph:
        if node.op_type == "Conv":
            node.resize_inputs(2)
    result = quantized(model, "correct_bias=true").model
    assert all(len(n.inputs) == 3 for n in result.graph if n.op_type == "Conv")


def test_the_operator_form_is_reported() -> None:
    result = quantized(builders.BUILDERS["gemm_mlp"](), "correct_bias=true,form=qoperator")
    assert any("form=qdq" in s.reason for s in result.steps[-1].skipped)
    assert not any("bias" in e.action for e in result.steps[-1].edits)
