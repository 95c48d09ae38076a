import gc
import tracemalloc

import numpy as np
import pytest

from onnxopt.graph.channels.cut import mask_channels
from onnxopt.pruning.consumers import consumers_of
from onnxopt.pruning.observe import Observed, cost_bytes, observable_at_once, observe
from onnxopt.reconstruction.moments import Moments
from tests import builders
from tests.pruning import models


def together(seen: Observed) -> Moments:
    """Return the moments of all samples."""
    parts = (seen.fit, seen.held_out)
    count = sum(p.count for p in parts)
    x, y = (sum(p.count * getattr(p, n) for p in parts) / count for n in ("mean_x", "mean_y"))
    xx = sum(p.count * (p.xx + np.outer(p.mean_x - x, p.mean_x - x)) for p in parts) / count
    xy = sum(p.count * (p.xy + np.outer(p.mean_x - x, p.mean_y - y)) for p in parts) / count
    yy = sum(p.count * (p.yy + np.square(p.mean_y - y)) for p in parts) / count
    return Moments(count, x, y, xx, xy, yy)


@pytest.mark.parametrize("make", [models.residual_net, models.mlp])
def test_moments_do_not_depend_on_the_size_of_batches(make):
    channels = models.prepared(make(0))
    masked = mask_channels(channels, models.kept_by_magnitude(channels, 0.5))
    first: dict[str, Moments] = {}
    for size in (1, 4, 16):
        seen = observe(channels.model, masked, consumers_of(channels), models.samples_of(channels.model, 32, size))
        found = {name: together(some) for name, some in seen.items()}
        first = first or found
        for name, some in found.items():
            assert some.count == first[name].count
            for part in ("mean_x", "mean_y", "xx", "xy", "yy"):
                expected = getattr(first[name], part)
                assert np.allclose(getattr(some, part), expected, atol=1e-4 * max(np.abs(expected).max(), 1e-3)), part


@pytest.mark.parametrize("batches", [2, 3, 16])
def test_something_is_held_out_and_more_is_fitted_to(batches):
    channels = models.prepared(models.mlp(0))
    seen = observe(
        channels.model, channels.model, consumers_of(channels), models.samples_of(channels.model, batches, 1)
    )
    for some in seen.values():
        assert 0 < some.held_out.count <= some.fit.count


def test_inputs_are_those_of_the_pruned_network_and_targets_those_of_the_original():
    channels = models.prepared(models.mlp(0))
    samples = models.samples_of(channels.model, 16)
    masked = mask_channels(channels, models.kept_by_magnitude(channels, 0.5))
    last = consumers_of(channels)[-1]
    plain = together(observe(channels.model, channels.model, [last], samples)[last.layer.node])
    pruned = together(observe(channels.model, masked, [last], samples)[last.layer.node])
    assert np.allclose(pruned.mean_y, plain.mean_y, atol=1e-5)
    assert not np.allclose(pruned.mean_x, plain.mean_x, atol=1e-2)


def test_the_target_makes_up_for_the_error_of_what_is_added():
    channels = models.prepared(models.residual_net(0))
    samples = models.samples_of(channels.model, 16)
    consumers = consumers_of(channels)
    # What the second block adds to is spoilt by what the first one reads.
    inner = [g for g in channels.groups if g.frozen is None and len(g.sources) == 1][-1]
    shared = next(g for g in channels.groups if g.frozen is None and len(g.sources) > 1)
    masked = mask_channels(channels, {shared.name: tuple(range(shared.size // 2))})
    closing = next(c for c in consumers if inner.name in c.inputs)
    means = [
        together(observe(channels.model, masked, [closing], samples, residual=residual)[closing.layer.node]).mean_y
        for residual in (True, False)
    ]
    assert not np.allclose(*means, atol=1e-3)
    same = [
        together(
            observe(channels.model, channels.model.clone(), [closing], samples, residual=residual)[closing.layer.node]
        )
        for residual in (True, False)
    ]
    assert np.allclose(same[0].mean_y, same[1].mean_y, atol=1e-5)


def test_memory_does_not_grow_with_the_number_of_samples():
    channels = models.prepared(builders.BUILDERS["residual_cnn"]())
    consumers = consumers_of(channels)

    def peak(count: int) -> int:
        samples = builders.samples_of(channels.model, count, 4)
        gc.collect()
        tracemalloc.start()
        observe(channels.model, channels.model, consumers, samples)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)
    # Inputs and outputs of the three convolutions, of all the samples that are more.
    kept_back = 112 * 64 * (3 + 8 + 8 + 8 + 8 + 8) * 4
    assert peak(128) - peak(16) < 0.4 * kept_back


def test_layers_that_do_not_fit_into_memory_are_left_out():
    channels = models.prepared(models.mlp(0))
    consumers = list(consumers_of(channels))
    costs = [cost_bytes(c, channels.model) for c in consumers]
    assert costs == [8 * 3 * i * (i + o) for i, o in ((8, 24), (24, 16), (16, 4))]
    assert observable_at_once(consumers, channels.model) == consumers
    assert observable_at_once(consumers, channels.model, sum(costs) - 1) == consumers[::2]
    assert observable_at_once(consumers, channels.model, 0) == consumers[:1]
