import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_models import linear, samples_of

from onnxopt.errors import DataError, NativeError
from onnxopt.measure.accuracy import drop, evaluate, evaluation_of
from onnxopt.measure.known_outputs import run_batches
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.tasks.named import metric_of

RUNTIME = Runtime()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).astype(np.float32)
LABELS = X.argmax(axis=1)


def test_a_perfect_and_a_broken_classifier():
    samples = samples_of(X, LABELS)
    seen = []
    good = evaluate(linear(np.eye(3)), samples, metric_of("top1"), RUNTIME, progress=lambda *a: seen.append(a))
    bad = evaluate(linear(-np.eye(3)), samples, metric_of("top1"), RUNTIME)
    assert (good.value, good.n, good.non_finite) == (1.0, 50, 0)
    assert good.interval.low < 1.0 == good.interval.high
    assert bad.value == 0.0
    assert seen[-1] == (50, 50)
    assert len(seen) == 7
    lost = drop(good, bad)
    assert (lost.value, lost.better, lost.worse) == (1.0, 0, 50)
    assert lost.p_value == pytest.approx(2 * 0.5**50)
    assert lost.probability_within(0.5) < 0.05


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_the_batch_size_does_not_change_the_figure(batch_size):
    weight = np.array([[1, 0, 0], [0.5, 1, 0], [0, 0, 1.0]])
    evaluation = evaluate(linear(weight), samples_of(X, LABELS, batch_size), metric_of("top1"), RUNTIME)
    assert evaluation.value == np.mean((X @ weight).argmax(axis=1) == LABELS)


def test_a_loaded_session_can_be_used_again():
    session = Session(linear(np.eye(3)), RUNTIME)
    for _ in range(2):
        assert evaluate(session, samples_of(X, LABELS), metric_of("top1"), RUNTIME).value == 1.0


def test_a_model_that_only_runs_at_batch_1_does():
    evaluation = evaluate(linear(np.eye(3), batch=1), samples_of(X, LABELS, 8), metric_of("top1"), RUNTIME)
    assert (evaluation.value, evaluation.n) == (1.0, 50)
    with pytest.raises(NativeError, match="ONX401"):
        list(run_batches(Session(linear(np.eye(4)), RUNTIME), samples_of(X, LABELS, 8)))


def test_accuracy_needs_labels_that_fit():
    with pytest.raises(DataError, match=r"ONX208.*fidelity"):
        evaluate(linear(np.eye(3)), samples_of(X), metric_of("top1"), RUNTIME)
    with pytest.raises(DataError, match="ONX209"):
        evaluate(linear(np.eye(3)), samples_of(X, LABELS + 1), metric_of("top1"), RUNTIME)
    with pytest.raises(DataError, match=r"ONX209.*undefined"):
        evaluate(linear(np.eye(3)), samples_of(X, LABELS * 0), metric_of("auroc"), RUNTIME)


def test_drops_are_positive_when_worse_whatever_the_direction():
    target = X[:, 0]
    good, bad = linear(np.eye(3)[:, :1]), linear(1.5 * np.eye(3)[:, :1])
    for name in ("rmse", "mae", "r2"):
        one, other = (evaluate(m, samples_of(X, target), metric_of(name), RUNTIME) for m in (good, bad))
        lost = drop(one, other)
        assert lost.value == pytest.approx(abs(one.value - other.value))
        assert lost.interval.low > 0
        assert (lost.better, lost.worse, lost.p_value) == (None, None, None)
        assert lost.probability_within(lost.value * 2) > 0.9
        assert lost.probability_within(0.0) < 0.1
        assert drop(other, one).value == -lost.value


@pytest.mark.parametrize("name", ["auroc", "f1", "mae", "r2", "rmse", "top1", "top5"])
def test_nan_never_looks_good(name):
    regression = name in ("mae", "rmse", "r2")
    weight = np.eye(3)[:, :1] if regression else np.eye(3)
    samples = samples_of(X, X[:, 0] if regression else LABELS)
    nan = linear(weight, np.full(weight.shape[1], np.nan))
    good, broken = (evaluate(m, samples, metric_of(name), RUNTIME) for m in (linear(weight * 0.9), nan))
    assert broken.non_finite == 50
    lost = drop(good, broken)
    assert lost.broken
    assert lost.value > 0
    assert lost.probability_within(1e9) == 0


def test_one_nan_that_the_baseline_has_too_is_not_held_against_the_candidate():
    metric = metric_of("top1")
    rows = np.ones((10, 1))
    one, other = evaluation_of(metric, rows, 1), evaluation_of(metric, rows, 1)
    assert not drop(one, other).broken
    assert drop(evaluation_of(metric, rows, 0), other).broken


def test_evaluations_of_different_things_cannot_be_compared():
    one = evaluation_of(metric_of("top1"), np.ones((3, 1)), 0)
    with pytest.raises(ValueError, match="same samples"):
        drop(one, evaluation_of(metric_of("top1"), np.ones((4, 1)), 0))
    with pytest.raises(ValueError, match="one metric"):
        drop(one, evaluation_of(metric_of("top5"), np.ones((3, 1)), 0))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_flips_add_up_and_the_interval_holds_the_drop(pairs):
    before, after = (np.array([[float(p[i])] for p in pairs]) for i in (0, 1))
    metric = metric_of("top1")
    lost = drop(evaluation_of(metric, before, 0), evaluation_of(metric, after, 0))
    assert lost.worse - lost.better == pytest.approx(lost.value * len(pairs))
    assert lost.interval.low <= lost.value <= lost.interval.high
    assert lost.interval.low < lost.interval.high


def test_the_same_seed_gives_the_same_figures():
    one, other = (
        evaluate(linear(w), samples_of(X, LABELS), metric_of("f1"), RUNTIME)
        for w in (np.eye(3), np.eye(3) + 0.4 * np.eye(3, k=1))
    )
    assert drop(one, other, seed=4).interval == drop(one, other, seed=4).interval
    np.testing.assert_array_equal(drop(one, other, seed=4).draws, drop(one, other, seed=4).draws)
