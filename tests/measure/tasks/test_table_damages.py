"""What a changed column does to regression, classification and multilabel: it is never inside the budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.measure.accuracy import drop, evaluation_of
from onnxopt.measure.tasks.recognition import MODULES, recognize
from onnxopt.measure.tasks.table.columns import relative_errors
from onnxopt.measure.tasks.task import ModelFacts, OutputFacts, TaskOptions

BUDGET = 0.05


def lost(before, after, task, batch=64):
    """Return the drop from one output to another."""
    options, facts = TaskOptions(tasks=(("", task),)), ModelFacts({"y": OutputFacts("y", ("n", *before.shape[1:]), ())})
    feeds = {"x": np.zeros((len(before), 1), np.float32)}
    comparison = recognize({"y": before}, feeds, facts, options)[0].comparison
    starts = range(0, len(before), batch)

    def evaluated(other):
        pairs = [({"y": before[i : i + batch]}, {"y": other[i : i + batch]}) for i in starts]
        rows = [comparison.compare(one, two, len(one["y"]), {}) for one, two in pairs]
        return evaluation_of(comparison, np.concatenate(rows), 0)

    return drop(evaluated(before), evaluated(after))


def outputs_of(task, seed, columns):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(400, columns)) * 3
    if task == "regression":
        return logits * 10.0 ** rng.integers(-4, 4, columns)  # columns of any size
    if task == "multilabel":
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def damaged(array, damage, column):
    changed, other = array.copy(), (column + 1) % array.shape[-1]
    if damage == "scaled":
        changed[..., column] *= 1.5
    elif damage == "zeroed":
        changed[..., column] = 0
    else:
        changed[..., [column, other]] = changed[..., [other, column]]
    return changed


@pytest.mark.parametrize("damage", ["scaled", "swapped", "zeroed"])
@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(2, 12), column=st.integers(0, 11))
@settings(max_examples=15, deadline=None)
def test_a_changed_column_is_never_inside_the_budget(task, damage, seed, columns, column):
    before = outputs_of(task, seed, columns)
    found = lost(before, damaged(before, damage, column % columns), task)
    assert not found.within(BUDGET)
    assert found.probability_within(BUDGET) < 0.5


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_small_noise_is_no_lost_class(task):
    rng = np.random.default_rng(0)
    before = outputs_of(task, 0, 12)
    found = lost(before, np.clip(before * (1 + 0.05 * rng.normal(size=before.shape)), 0, 1), task)
    assert found.value < 0.05


def test_a_rare_class_is_not_lost_although_most_answers_stay():
    """Ten of a thousand samples are of class 2: 99 % agree when it is never given again."""
    rng = np.random.default_rng(0)
    before = np.eye(3)[np.r_[rng.integers(0, 2, 990), np.full(10, 2)]] * 0.9 + 0.05
    after = before.copy()
    after[:, 2] = 0
    found = lost(before, after, "classification")
    assert found.value > 0.4


def test_rare_events_in_a_column_count_as_much_as_large_numbers_beside_them():
    rng = np.random.default_rng(0)
    pixels, scores = rng.uniform(0, 640, (200, 4, 50)), np.zeros((200, 2, 50))
    scores[rng.integers(0, 200, 30), 0, rng.integers(0, 50, 30)] = 0.9
    before = np.concatenate((pixels, scores), axis=1)
    after = before.copy()
    after[:, 4] = 0
    assert lost(before, after, "regression").value > 0.9


def test_a_constant_column_is_measured_against_its_size_and_nothing_against_nothing():
    before = np.column_stack((np.random.default_rng(0).normal(size=100), np.full(100, 5.0), np.zeros(100)))
    assert lost(before, before + np.array([0, 1, 0]), "regression").value == pytest.approx(0.2)
    assert lost(before, before + np.array([0, 0, 1e-9]), "regression").value < 1e-2


def test_every_task_has_a_module():
    from importlib import import_module

    for name in MODULES.values():
        module = import_module(name)
        assert callable(module.recognize)
        assert callable(module.comparison)


def test_outputs_that_are_infinite_in_both_directions_cause_no_warning():
    rows = np.array([[0.0, np.inf, np.inf], [0.0, -np.inf, np.inf]])
    with np.errstate(invalid="raise"):
        assert relative_errors(rows, np.ones((1, 2))).tolist() == [[0.0]]  # nothing differs
