"""What is recovered without training, and that nothing is lost where nothing was removed."""

from typing import get_args

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.channels.cut import cut_channels
from onnxopt.graph.channels.find import Channels
from onnxopt.graph.edit import set_weight
from onnxopt.measure.output_error import OutputError
from onnxopt.model_file import to_bytes
from onnxopt.pruning import compensate as compensation
from onnxopt.pruning.compensate import compensate
from onnxopt.pruning.consumers import consumers_of, kept_features
from onnxopt.pruning.observe import observe
from onnxopt.pruning.ranking import by_elimination
from onnxopt.reconstruction.fit import Fit, Method
from tests import builders, numerics
from tests.pruning import models

FIT, SEEN = 160, 224


def error(channels: Channels, method: Method) -> float:
    """Return the output error on samples that nothing was fitted to, with half of each group gone."""
    samples = models.samples_of(channels.model, SEEN)
    made = compensate(channels, models.kept_by_magnitude(channels, 0.5), samples.select(np.arange(FIT)), method)
    return OutputError(channels.model, samples.select(np.arange(FIT, SEEN))).of(cut_channels(made.channels, made.kept))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("make", [models.residual_net, models.mlp])
def test_the_more_a_layer_may_change_the_less_is_lost(make, seed):
    channels = models.prepared(make(seed))
    errors = {method: error(channels, method) for method in get_args(Method)}
    assert errors["ls"] < errors["bias"] < errors["none"]
    assert errors["ls"] < 0.5 * errors["none"]
    assert errors["ls"] < errors["affine"]


def with_dead_units(channels: Channels, dead: int) -> Channels:
    """Let the first units of the first layer of `mlp` be zero after its ReLU, and the layer behind love them."""
    weights = list(channels.model.graph.initializers.values())
    first, second = (w for w in weights if tuple(w.shape.numpy()) in ((8, 24), (24, 16)))
    array, reading = first.const_value.numpy().copy(), second.const_value.numpy().copy()
    array[:, :dead], reading[:dead] = 0.0, 100.0
    set_weight(first, array)
    set_weight(second, reading)
    return channels


def test_dead_units_go_first_and_cost_nothing():
    channels = with_dead_units(models.prepared(models.mlp(0)), 10)
    group = next(g for g in channels.groups if g.size == 24)
    samples = models.samples_of(channels.model, 64)
    consumers = consumers_of(channels)
    seen = observe(channels.model, channels.model, consumers, samples)
    ranking = by_elimination(group.name, consumers, seen, channels.model)
    assert set(ranking.order[:10].tolist()) == set(range(10))
    assert ranking.losses[9] < 1e-6 < ranking.losses[10]
    made = compensate(channels, {group.name: ranking.kept(10, 24)}, samples, "ls")
    feeds = dict(next(iter(samples)))
    pair = builders.run(channels.model, feeds), builders.run(cut_channels(made.channels, made.kept), feeds)
    assert numerics.largest_difference(*pair) < 1e-3


def test_the_same_samples_give_the_same_bytes_and_the_original_stays():
    channels = models.prepared(models.residual_net(0))
    before = to_bytes(channels.model)
    kept = models.kept_by_magnitude(channels, 0.5)
    made = [compensate(channels, kept, models.samples_of(channels.model, 48), "ls") for _ in range(2)]
    files = [to_bytes(cut_channels(m.channels, m.kept)) for m in made]
    assert files[0] == files[1]
    assert to_bytes(channels.model) == before != to_bytes(made[0].channels.model)


def test_layers_before_the_first_that_reads_removed_units_stay_as_they_are():
    channels = models.prepared(models.mlp(0))
    group = next(g for g in channels.groups if g.size == 16)
    kept = {group.name: tuple(range(8))}
    made = compensate(channels, kept, models.samples_of(channels.model, 256), "ls")
    last = consumers_of(channels)[-1]
    assert [name for name, fit in made.fits.items() if fit.helped] == [last.layer.node]
    changed = {n for n, v in weights_of(made.channels).items() if not np.array_equal(v, weights_of(channels)[n])}
    assert changed == {last.layer.weight, last.layer.bias}
    written = last.layer.matrix(weights_of(made.channels)[last.layer.weight])
    assert not written[:, ~kept_features(last.inputs, kept, 16)].any()


def test_units_can_be_chosen_when_their_reader_is_reached():
    channels = models.prepared(models.mlp(0))
    asked: list[str] = []

    def choose(name, seen, model: ir.Model):
        asked.append(name)
        assert all(some.fit.count for some in seen.values())
        return (1, 2, 3)

    counts = {g.name: tuple(range(3)) for g in channels.groups if g.frozen is None}
    made = compensate(channels, counts, models.samples_of(channels.model, 64), "ls", choose=choose)
    assert asked == list(counts)
    assert made.kept == dict.fromkeys(counts, (1, 2, 3))


def test_units_are_chosen_for_the_readers_of_their_group_and_only_layers_from_there_on_are_refitted():
    channels = models.prepared(models.mlp(0))
    reading = {name: [c.layer.node for c in consumers_of(channels) if name in c.inputs] for name in groups(channels)}
    first, second = groups(channels)
    later = [c.layer.node for c in consumers_of(channels)]
    for name in (first, second):
        asked: list[tuple[str, set[str]]] = []

        def choose(chosen, seen, model: ir.Model, asked=asked):
            asked.append((chosen, set(seen)))
            return (0, 1, 2)

        made = compensate(channels, {name: (0, 1, 2)}, models.samples_of(channels.model, 64), "ls", choose=choose)
        assert asked == [(name, set(reading[name]))]
        assert set(made.fits) == set(later[later.index(reading[name][0]) :])
        assert made.missing == {}


def groups(channels: Channels) -> list[str]:
    """Return the groups that may be pruned, in the order of their first readers."""
    may = {g.name for g in channels.groups if g.frozen is None}
    return [name for c in consumers_of(channels) for name in c.inputs if name in may]


@pytest.mark.parametrize(("after", "written"), [(0.1, False), (0.2, False), (0.05, True)])
def test_only_a_fit_that_lowers_the_error_on_held_out_samples_is_written(monkeypatch, after, written):
    channels = models.prepared(models.mlp(0))

    def fitted(fit, held_out, weight, bias, **_):
        return Fit(np.full_like(weight, 9.0), np.ones_like(bias), before=0.1, after=after)

    monkeypatch.setattr(compensation, "fitted", fitted)
    made = compensate(channels, models.kept_by_magnitude(channels, 0.5), models.samples_of(channels.model, 32), "ls")
    assert made.fits
    same = [np.array_equal(value, weights_of(channels)[name]) for name, value in weights_of(made.channels).items()]
    assert all(same) is not written


def test_a_reader_whose_moments_memory_does_not_hold_is_named_and_left(monkeypatch):
    channels = models.prepared(models.mlp(0))
    readers = [c.layer.node for c in consumers_of(channels)]
    kept = models.kept_by_magnitude(channels, 0.5)
    reading = [c.layer.node for c in consumers_of(channels) if any(name in kept for name in c.inputs)]
    fits_in_memory = compensation.observable_at_once
    for large, expected in ((reading[-1], (reading[-1],)), (readers[0], ())):

        def affordable(consumers, model, large=large):
            return fits_in_memory([c for c in consumers if c.layer.node != large], model)

        monkeypatch.setattr(compensation, "observable_at_once", affordable)
        made = compensate(channels, kept, models.samples_of(channels.model, 32), "ls")
        assert made.too_large == expected
        assert large not in made.fits


def weights_of(channels: Channels) -> dict[str, np.ndarray]:
    return {n: v.const_value.numpy() for n, v in channels.model.graph.initializers.items()}
