"""The change of outputs by a repair; what was not run is not unchanged."""

import numpy as np
import pytest

from onnxopt.repairs.mending import _unlike
from onnxopt.repairs.witness import change, likely_change

NAN, INF = float("nan"), float("inf")


def outputs(*arrays):
    """Return one output of several batches."""
    return [[np.array(array) for array in arrays]]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (outputs([3.0], [4.0]), outputs([3.0], [4.5]), 0.1),
        (outputs([0.0], [0.0]), outputs([0.0], [0.0]), 0.0),
        (outputs([0.0]), outputs([1e-9]), INF),
        (outputs([NAN, 2.0]), outputs([NAN, 3.0]), 0.5),
        (outputs([NAN, 2.0]), outputs([2.0, NAN]), INF),
        (outputs([INF, 2.0]), outputs([-INF, 2.0]), INF),
        (outputs([1.0, 2.0]), outputs([INF, 2.0]), INF),
        (outputs([1, 2, 3, 4]), outputs([1, 2, 3, 5]), 0.25),
        (outputs([True, False]), outputs([True, False]), 0.0),
        (outputs([[1.0]]), outputs([1.0]), INF),
        (outputs([1.0]), outputs([1]), INF),
        (outputs(np.zeros(0, np.int64)), outputs(np.zeros(0, np.int64)), 0.0),
        ([[[{1: 0.5}]]], [[[{1: 0.5}]]], 0.0),
        ([[[np.array([1.0, 2.0])]]], [[[np.array([1.0, 2.0])]]], 0.0),
        ([[[np.array([1.0, 2.0])]]], [[[np.array([1.0, 3.0])]]], INF),
        (outputs([1.0, 2.0]), [[[1.0, 2.0]]], INF),
        ([[[{1: 0.5}]]], [[[{1: 0.6}]]], INF),
        ([[[{1: 0.5}], [{1: 0.5}]]], [[[{1: 0.5}], [{1: 0.6}]]], INF),
        (outputs([1.0], [2.0]), outputs([1.0], [[2.0]]), INF),
    ],
)
def test_the_change_of_an_output_is_relative_to_it_over_all_batches(before, after, expected):
    assert change(before, after) == pytest.approx(expected)


def test_the_output_that_changes_most_counts():
    before, after = [*outputs([1.0]), *outputs([1.0])], [*outputs([1.1]), *outputs([1.3])]
    assert change(before, after) == pytest.approx(0.3)
    assert change(before, after[:1]) == INF


def test_where_nothing_was_run_nothing_is_unchanged():
    assert change([], []) == INF


def test_a_change_that_differs_between_inputs_is_likely_larger_on_others():
    rng = np.random.default_rng(0)
    before = [[rng.standard_normal(10) for _ in range(16)]]
    even = [[array * 1.04 for array in before[0]]]
    rare = [[array * (1.16 if i == 0 else 1.0) for i, array in enumerate(before[0])]]
    assert likely_change(before, before) == 0
    assert likely_change(before, even) == pytest.approx(change(before, even)) == pytest.approx(0.04)
    assert change(before, rare) < 0.05
    assert likely_change(before, rare) > 0.08
    assert likely_change(before, [[array + NAN for array in before[0]]]) == INF
    assert likely_change(outputs([1.0]), outputs([1.1])) == pytest.approx(0.1)
    assert likely_change([], []) == INF


def test_the_interval_holds_for_other_inputs():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        arrays = [rng.standard_normal(50) for _ in range(16)]
        moved = [a + 0.05 * rng.gamma(2, 0.5) * rng.standard_normal(50) for a in arrays]
        true = 0.05 * np.sqrt(2 * 3 * 0.25)  # the second moment of that gamma distribution
        held += true <= likely_change([arrays], [moved])
    assert held >= 185


@pytest.mark.parametrize(
    ("reordering", "moved", "deployed", "said"),
    [
        (0.0, 0.0, 0.0, ""),
        (None, 0.05, 0.2, ""),
        (1e-3, 1e-3, 0.0, ""),
        (0.0, NAN, 0.0, "outputs are not equal"),
        (None, NAN, 0.0, "outputs change"),
        (None, 0.051, 0.0, "outputs change"),
        (None, 0.0, NAN, "as run"),
        (None, 0.0, 0.21, "as run, outputs change by 21.0 %, 20.0 % is allowed"),
    ],
)
def test_each_limit_of_a_change_must_hold(reordering, moved, deployed, said):
    found = _unlike(reordering, moved, deployed, slack=0.1, most=0.05)
    assert found.startswith(said)
    assert bool(found) is bool(said)
