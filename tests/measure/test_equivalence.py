"""Outputs are equal only where they were compared: on batches, in shape, type, and where they are no numbers."""

import numpy as np
import pytest

from onnxopt.graph.edit import set_weight
from onnxopt.measure import equivalence
from onnxopt.measure.equivalence import difference, largest_difference, runnable
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file import probe_feeds, signature_of
from tests import builders

NAN, INF = float("nan"), float("inf")


def scaled(model, factor):
    """Return the model with its first weight scaled."""
    changed = model.clone()
    value = next(v for v in changed.graph.initializers.values() if v.dtype.is_floating_point())
    set_weight(value, (value.const_value.numpy() * factor).astype(value.dtype.numpy()))
    return changed


@pytest.mark.parametrize("name", ["gemm_mlp", "already_quantized"])
def test_a_model_differs_from_a_changed_one_on_any_batch(name):
    model = builders.BUILDERS[name]()
    batches = [probe_feeds(signature_of(model), dynamic=2, seed=seed) for seed in (0, 1)]
    assert largest_difference(model, model, batches) == 0
    changed = scaled(model, 1.5)
    alone = [largest_difference(model, changed, [feeds]) for feeds in batches]
    assert largest_difference(model, changed, batches) == max(alone) > 1e-3


@pytest.mark.parametrize(("name", "levels"), [("gemm_mlp", {"none", "all"}), ("already_quantized", {"none"})])
def test_a_model_with_dequantized_values_is_compared_without_optimizations_only(monkeypatch, name, levels):
    """The optimizer's integer products round differently in models of different size."""
    seen = set()

    def session(model, runtime):
        seen.add(runtime.optimization)
        return Session(model, runtime)

    monkeypatch.setattr(equivalence, "Session", session)
    model = builders.BUILDERS[name]()
    largest_difference(model, model, [probe_feeds(signature_of(model), dynamic=1)])
    assert seen == levels


def test_without_batches_nothing_is_equal():
    model = builders.BUILDERS["gemm_mlp"]()
    assert largest_difference(model, model, []) == INF


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([4.0, 2.0], [4.0, 1.0], 0.25),
        ([-4.0, 2.0], [-4.0, 1.0], 0.25),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([1.0, 1.0], [INF, 1.0], INF),
        ([NAN, 1.0], [NAN, 2.0], 1.0),
        ([INF, 2.0], [INF, 1.0], 0.5),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([INF, 1.0], [NAN, 1.0], INF),
        ([], [], 0.0),
        ([0.0, 0.0], [1e-6, 0.0], 1.0),
        ([[1.0]], [1.0], INF),
    ],
)
def test_floats_differ_relative_to_the_largest(one, other, expected):
    assert difference(np.array(one), np.array(other)) == pytest.approx(expected)


def test_other_types_must_be_equal():
    assert difference(np.array([1, 2]), np.array([1, 2])) == 0
    assert difference(np.array([1, 2]), np.array([1, 3])) == INF
    assert difference(np.array([1, 2]), np.array([1.0, 2.0])) == INF
    assert difference([{1: 0.5}], [{1: 0.5}]) == 0
    assert difference([{1: 0.5}], [{1: 0.6}]) == INF


def test_sequences_are_compared_item_by_item_and_only_with_sequences():
    two = [np.array([4.0, 2.0]), np.array([1.0, 2.0])]
    assert difference(two, [two[0].copy(), two[1].copy()]) == 0
    assert difference(two, [np.array([4.0, 1.0]), two[1]]) == 0.25
    assert difference(two, two[:1]) == INF
    assert difference([], []) == 0
    assert difference(np.array([1.0, 2.0]), [1.0, 2.0]) == INF
    assert difference([1.0, 2.0], np.array([1.0, 2.0])) == INF


def test_batches_that_the_model_does_not_run_on_are_left_out():
    model = builders.BUILDERS["gemm_mlp"]()
    good = probe_feeds(signature_of(model), dynamic=2)
    bad = {name: array[:, :1] for name, array in good.items()}
    assert runnable(model, signature_of(model), [bad, good]) == [good]
    model.graph[0].op_type = "NoSuchOperator"
    assert runnable(model, signature_of(model), [good]) == []
