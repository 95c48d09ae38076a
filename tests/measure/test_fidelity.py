import numpy as np
import pytest
from measure_models import built, linear, samples_of, zipmap
from onnx import TensorProto, helper
from scipy import special, stats

from onnxopt.errors import ModelError
from onnxopt.measure.fidelity import fidelity
from onnxopt.measure.runtime.session import Runtime

RUNTIME = Runtime()
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
OTHER = np.eye(3) + 0.3 * np.eye(3, k=1)


def test_a_model_agrees_with_itself():
    result = fidelity(linear(OTHER), linear(OTHER), samples_of(X), RUNTIME)
    (out,) = result.outputs
    assert (out.name, out.top1_agreement, out.cosine, out.kl, out.max_abs_error) == ("scores", 1, 1, 0, 0)
    assert out.sqnr_db == np.inf
    assert (result.n, result.non_finite) == (40, 0)
    assert out.rows.shape == (40, 6)


@pytest.mark.parametrize("activation", [None, "Softmax"])
def test_figures_against_their_definitions(activation):
    models = (linear(w, activation=activation) for w in (np.eye(3), OTHER))
    (out,) = fidelity(*models, samples_of(X, batch_size=7), RUNTIME).outputs
    one, other = X.astype(np.float64), X.astype(np.float64) @ OTHER
    p, q = special.softmax(one, axis=1), special.softmax(other, axis=1)
    if activation:
        one, other = p, q
    assert out.top1_agreement == np.mean(one.argmax(axis=1) == other.argmax(axis=1))
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert out.cosine == pytest.approx(cosine.mean(), rel=1e-5)
    assert out.kl == pytest.approx(stats.entropy(p, q, axis=1).mean(), rel=1e-4)
    assert out.sqnr_db == pytest.approx(10 * np.log10((one**2).sum() / ((one - other) ** 2).sum()), rel=1e-5)
    assert out.max_abs_error == pytest.approx(np.abs(one - other).max(), rel=1e-5)


def test_a_single_column_has_no_classes():
    (out,) = fidelity(linear(np.ones((3, 1))), linear(2 * np.ones((3, 1))), samples_of(X), RUNTIME).outputs
    assert out.top1_agreement is None
    assert out.kl is None
    assert out.sqnr_db == pytest.approx(0, abs=1e-5)


def test_maps_are_compared_and_class_outputs_left_out():
    result = fidelity(zipmap(), zipmap(), samples_of(X), RUNTIME)
    assert [out.name for out in result.outputs] == ["probabilities"]


def test_nan_is_counted_and_agrees_with_nothing():
    result = fidelity(linear(np.eye(3)), linear(np.eye(3), [np.nan] * 3), samples_of(X), RUNTIME)
    assert result.non_finite == 40
    assert result.outputs[0].top1_agreement == 0
    assert np.isnan(result.outputs[0].cosine)
    assert not result.outputs[0].sqnr_db > 0


def test_models_with_other_outputs_are_refused():
    with pytest.raises(ModelError, match=r"ONX308.*scores against other"):
        fidelity(linear(np.eye(3)), linear(np.eye(3), output="other"), samples_of(X), RUNTIME)


def test_outputs_of_another_length_differ_by_all_they_hold():
    def selecting(limit):
        value = helper.make_tensor_value_info
        nodes = [
            helper.make_node("Greater", ["x", "limit"], ["mask"]),
            helper.make_node("Reshape", ["mask", "shape"], ["flat"]),
            helper.make_node("Compress", ["x", "flat"], ["found"]),
        ]
        return built(
            nodes,
            [value("x", TensorProto.FLOAT, [1, 3])],
            [value("found", TensorProto.FLOAT, ["k"])],
            {"limit": np.float32(limit), "shape": np.array([-1])},
        )

    (out,) = fidelity(selecting(-100), selecting(0), samples_of(X, batch_size=1), RUNTIME).outputs
    power = (X.astype(np.float64) ** 2).sum(axis=1)
    shorter = (X <= 0).any(axis=1)
    assert out.sqnr_db == pytest.approx(10 * np.log10(power.sum() / power[shorter].sum()))
    assert out.top1_agreement is None
