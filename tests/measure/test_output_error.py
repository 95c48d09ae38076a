"""The error of a changed model's outputs; where nothing can be compared it is not zero."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.edit import set_weight
from onnxopt.measure.output_error import OutputError, relative_power
from tests import builders


def without_float_outputs() -> ir.Model:
    """Return a classifier whose only output is the class."""
    model = builders.BUILDERS["gemm_mlp"]()
    scores = model.graph.outputs[0]
    place = ir.node("ArgMax", [scores], {"axis": -1, "keepdims": 0})
    place.outputs[0].name = "class"
    place.outputs[0].dtype = ir.DataType.INT64
    place.outputs[0].shape = ir.Shape([*scores.shape][:-1])
    model.graph.append(place)
    model.graph.outputs[:] = [place.outputs[0]]
    return model


def negated(model: ir.Model) -> ir.Model:
    """Return the model with its last matrix negated."""
    changed = model.clone()
    last = [v for v in changed.graph.initializers.values() if len(v.shape or ()) == 2][-1]
    set_weight(last, -last.const_value.numpy())
    return changed


def test_the_error_is_relative_to_the_variance_of_the_outputs():
    model = builders.BUILDERS["gemm_mlp"]()
    samples = builders.samples_of(model, count=16)
    changed = negated(model)
    before, after = (np.concatenate([builders.run(m, feeds)[0] for feeds in samples]) for m in (model, changed))
    expected = np.mean((after - before) ** 2) / np.var(before)
    assert OutputError(model, samples).of(changed) == pytest.approx(expected, rel=1e-3)


def test_an_equal_model_has_no_error():
    model = builders.BUILDERS["gemm_mlp"]()
    assert OutputError(model, builders.samples_of(model)).of(model.clone()) == 0


def test_without_float_outputs_the_error_is_the_share_of_elements_that_differ():
    model = without_float_outputs()
    samples = builders.samples_of(model, count=16)
    changed = negated(model)
    before, after = (np.concatenate([builders.run(m, feeds)[0] for feeds in samples]) for m in (model, changed))
    expected = np.mean(before != after)
    assert expected > 0
    error = OutputError(model, samples)
    assert error.of(changed) == pytest.approx(expected)
    assert error.of(model) == 0


def test_outputs_that_are_not_finite_anywhere_are_no_agreement():
    model = builders.BUILDERS["gemm_mlp"]()
    broken = model.clone()
    for value in broken.graph.initializers.values():
        set_weight(value, np.full_like(value.const_value.numpy(), np.nan))
    samples = builders.samples_of(model)
    assert OutputError(model, samples).of(broken) == float("inf")
    assert OutputError(broken, samples).of(model) == float("inf"), "there is nothing to compare with"


def test_the_power_of_an_error_is_relative_to_the_signal():
    assert relative_power(2.0, 8.0) == 0.25
    assert relative_power(1.0, 0.0) == pytest.approx(1e30)
    assert relative_power(float("nan"), 1.0) == float("inf")
    assert relative_power(float("inf"), 1.0) == float("inf")
