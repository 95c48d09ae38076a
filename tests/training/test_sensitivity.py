"""Scores of channels from gradients, against sums written out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from onnxopt.errors import DataError, ModelError
from onnxopt.model_file import load, signature_of
from onnxopt.samples import open_samples
from onnxopt.training.sensitivity import TEMPERATURE, fisher_scores, per_sample_loss, taylor_scores
from tests import builders
from tests.builders import Made, samples_of

SCORE_RELATIVE = 1e-4


def linear(seed: int = 3):
    """Return y = W x as a model, and W."""
    net = builders.Net(seed)
    weight = net.weight(4, 8, name="w")
    net.node("Gemm", "x", weight, transB=1, out="y")
    model = net.model([builders.ROWS], [builders.CLASSES])
    return model, model.graph.initializers["w"].const_value.numpy().astype(np.float64)


def gradients(weight: np.ndarray, rows: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return dL/dW per sample of the softened cross-entropy of W x, shape (n, 4, 8)."""
    scores = rows @ weight.T / TEMPERATURE
    powers = np.exp(scores - scores.max(1, keepdims=True))
    error = powers / powers.sum(1, keepdims=True)
    error[np.arange(len(rows)), scores.argmax(1) if labels is None else labels] -= 1
    return error[:, :, None] * rows[:, None, :] / TEMPERATURE


def rows_of(samples) -> np.ndarray:
    return np.concatenate([feeds["x"] for feeds in samples]).astype(np.float64)


@pytest.mark.parametrize("labels", [None, np.array([0, 3, 2, 1, 1, 0, 2, 2])])
def test_scores_are_those_written_out(labels) -> None:
    model, weight = linear()
    samples = samples_of(model, labels=labels)
    found = fisher_scores(model, samples, [("w", 0), ("w", 1), ("w", 0)])
    effect = gradients(weight, rows_of(samples), labels) * weight
    assert set(found) == {("w", 0), ("w", 1)}
    np.testing.assert_allclose(found["w", 0], np.square(effect.sum(2)).mean(0) / 2, rtol=SCORE_RELATIVE)
    np.testing.assert_allclose(found["w", 1], np.square(effect.sum(1)).mean(0) / 2, rtol=SCORE_RELATIVE)
    taylor = taylor_scores(model, samples, [("w", 0)], batch_size=4)["w", 0]
    batches = effect.reshape(2, 4, 4, 8).mean(1)
    np.testing.assert_allclose(taylor, np.square(batches.sum(2)).mean(0), rtol=SCORE_RELATIVE)


def test_a_fixed_batch_gives_the_same_fisher_scores() -> None:
    model, _ = linear()
    samples = samples_of(model)
    fixed = type(samples).of(Made(model, 8), 4, fixed_batch=True)
    one, other = (fisher_scores(model, s, [("w", 0)])["w", 0] for s in (samples, fixed))
    np.testing.assert_allclose(one, other, rtol=SCORE_RELATIVE)


@pytest.mark.parametrize("score", [taylor_scores, fisher_scores])
def test_a_channel_without_effect_scores_nothing(score) -> None:
    net = builders.Net(5)
    first = net.rng.standard_normal((6, 8)).astype(np.float32)
    second = net.rng.standard_normal((4, 6)).astype(np.float32)
    first[2], second[:, 4] = 0.0, 0.0
    hidden = net.node("Tanh", net.node("Gemm", "x", net.const(first, "w1"), transB=1))
    net.node("Gemm", hidden, net.const(second, "w2"), transB=1, out="y")
    model = net.model([builders.ROWS], [builders.CLASSES])
    found = score(model, samples_of(model), [("w1", 0), ("w2", 1)])
    for key in found:
        assert np.flatnonzero(found[key] == 0).tolist() == [2, 4]
        assert (found[key] >= 0).all()


def test_what_is_no_trained_weight_is_left_out() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    norm = next(n for n in model.graph if n.op_type == "BatchNormalization")
    members = [(v.name, 0) for v in norm.inputs[1:]]
    found = taylor_scores(model, samples_of(model), members)
    assert set(found) == set(members[:2])
    assert all(scores.shape == (8,) for scores in found.values())
    assert taylor_scores(model, samples_of(model), [("nothing", 0)]) == {}


def test_scores_find_the_channels_a_trained_network_needs() -> None:
    model = load(Path(__file__).parents[2] / "models" / "digits_mlp.onnx")
    samples = open_samples("digits", signature_of(model)).take(64)
    matrices = [
        v for v in model.graph.initializers.values() if v.const_value is not None and len(v.const_value.shape) == 2
    ]
    weight = max(matrices, key=lambda v: v.const_value.size)
    for score in (taylor_scores, fisher_scores):
        found = score(model, samples, [(weight.name, 0)])[weight.name, 0]
        assert np.isfinite(found).all()
        assert found.max() > 10 * np.median(found) >= 0


def test_losses_of_every_kind_of_output() -> None:
    scores = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    own = torch.nn.functional.cross_entropy(scores / TEMPERATURE, torch.tensor([0, 1]), reduction="none")
    torch.testing.assert_close(per_sample_loss(scores, None), own)
    torch.testing.assert_close(per_sample_loss(scores[:, :, None, None], None), own)
    torch.testing.assert_close(per_sample_loss(torch.softmax(scores, 1), None), own)
    torch.testing.assert_close(per_sample_loss(scores, np.array([0, 1])), own)
    tokens = torch.stack([scores, scores.flip(1)], 1)
    assert per_sample_loss(tokens, None).shape == (2,)
    torch.testing.assert_close(per_sample_loss(tokens, np.array([[0, 2], [1, 1]])), 2 * own)
    numbers = torch.tensor([[1.0], [-2.0]])
    torch.testing.assert_close(per_sample_loss(numbers, None), torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(per_sample_loss(numbers, np.array([0.0, -1.0])), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("labels", [np.array([0, 3]), np.array([-1, 0]), np.array([0, 1, 2]), np.array(["a", "b"])])
def test_labels_that_do_not_fit(labels) -> None:
    with pytest.raises(DataError, match="ONX206"):
        per_sample_loss(torch.zeros(2, 3), labels)


def test_a_model_without_a_gradient_says_so() -> None:
    net = builders.Net(5)
    net.node("Round", net.node("MatMul", "x", net.weight(8, 4, name="w")), out="z")
    net.node("Cast", net.node("Cast", "z", to=builders.I64), to=builders.F, out="y")
    model = net.model([builders.ROWS], [builders.CLASSES])
    with pytest.raises(ModelError, match=r"ONX309.*depends on a weight"):
        taylor_scores(model, samples_of(model), [("w", 1)])


def test_every_output_counts() -> None:
    net = builders.Net(6)
    hidden = net.node("Relu", net.node("MatMul", "x", net.weight(8, 6, name="body")))
    net.node("MatMul", hidden, net.weight(6, 4, name="scores_weight"), out="y")
    net.node("MatMul", hidden, net.weight(6, 3, name="boxes_weight"), out="boxes")
    model = net.model([builders.ROWS], [builders.CLASSES, ("boxes", builders.F, ["batch", 3])])
    names = ("body", "scores_weight", "boxes_weight")
    for score in (taylor_scores, fisher_scores):
        found = score(model, samples_of(model), [(name, 1) for name in names])
        assert all((found[name, 1] > 0).all() for name in names)
