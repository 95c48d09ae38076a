from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.channels.cut import mask_channels
from onnxopt.graph.edit import set_weight
from onnxopt.measure.output_error import OutputError
from onnxopt.pruning.compensate import refit
from onnxopt.pruning.consumers import consumers_of
from onnxopt.pruning.observe import observe
from onnxopt.pruning.ranking import Ranking, by_weights
from onnxopt.pruning.sensitivity import with_measured_losses
from tests import builders
from tests.pruning import models


def classifier(softmax: bool) -> ir.Model:
    net = builders.Net(0)
    logits = net.node("Gemm", "x", net.weight(8, 4, name="w"), net.weight(4), out=None if softmax else "y")
    if softmax:
        net.node("Softmax", logits, axis=-1, out="y")
    return net.model([("x", models.F, ["n", 8])], [("y", models.F, ["n", 4])])


def changed(model: ir.Model, factor: float) -> ir.Model:
    copy = model.clone()
    weight = copy.graph.initializers["w"]
    set_weight(weight, weight.const_value.numpy() * np.float32(factor))
    return copy


def outputs(model: ir.Model, samples) -> np.ndarray:
    return np.concatenate([builders.run(model, dict(feeds))[0] for feeds in samples]).astype(float)


def test_a_model_has_no_error_against_itself():
    model = classifier(False)
    assert OutputError(model, models.samples_of(model, 8)).of(model) == 0


def test_the_error_is_relative_to_the_variance_of_the_outputs():
    model = classifier(False)
    samples = models.samples_of(model, 8)
    one, other = outputs(model, samples), outputs(changed(model, 0.5), samples)
    expected = np.square(one - other).mean() / one.var()
    assert OutputError(model, samples).of(changed(model, 0.5)) == pytest.approx(expected, rel=1e-4)


def test_probabilities_are_compared_as_logarithms():
    """Twice as sure is hardly another probability, but twice the logits."""
    model = changed(classifier(True), 3.0)
    samples = models.samples_of(model, 16)
    one, other = (np.log(outputs(m, samples) + 1e-6) for m in (model, changed(model, 2.0)))
    one, other = (a - a.mean(1, keepdims=True) for a in (one, other))
    found = OutputError(model, samples).of(changed(model, 2.0))
    assert found == pytest.approx(np.square(one - other).mean() / one.var(), rel=1e-3)
    assert found > 0.05


@pytest.mark.parametrize("method", ["ls", "none"])
def test_losses_are_measured_at_the_outputs_once_readers_made_up_for_them(method):
    channels = models.prepared(models.mlp(0))
    samples = models.samples_of(channels.model, 64)
    group = next(g for g in channels.groups if g.size == 16)
    readers = [c for c in consumers_of(channels) if group.name in c.inputs]
    seen = observe(channels.model, channels.model, readers, samples)
    error = OutputError(channels.model, samples)
    ranking = Ranking.by_scores(by_weights(channels, group, "l1", 0))
    found = with_measured_losses(ranking, group, channels, readers=readers, seen=seen, error=error, method=method)
    assert np.array_equal(found.order, ranking.order)
    assert (np.diff(found.losses) >= 0).all()
    for removed in (2, 4, 8, 12):
        kept = {group.name: ranking.kept(removed, group.size)}
        state = replace(channels, model=channels.model.clone())
        for reader in readers:
            refit(state.model, reader, seen[reader.layer.node], kept, method)
        real = error.of(mask_channels(state, kept))
        assert found.losses[removed - 1] == pytest.approx(max(real, found.losses[removed - 2]), rel=1e-6)


def test_a_change_that_makes_nan_is_no_small_one() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    broken = model.clone()
    weight = next(v for v in broken.graph.initializers.values() if len(v.shape) == 2)
    set_weight(weight, np.full(tuple(weight.shape), np.nan, np.float32))
    assert OutputError(model, builders.samples_of(model, count=4)).of(broken) == float("inf")
