"""Outputs of the baseline: computed once, the session closed, and never changed by who reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from onnxopt.errors import NativeError
from onnxopt.measure import known_outputs
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.tasks.named import metric_of
from onnxopt.samples import Feeds
from tests import builders


@contextmanager
def counted() -> Iterator[list[int]]:
    """Note how many samples every run of a session takes."""
    runs, plain = list[int](), Session.run

    def run(self: Session, feeds: Feeds, outputs: object = None) -> object:
        runs.append(len(next(iter(feeds.values()))))
        return plain(self, feeds, outputs)  # type: ignore[arg-type]

    with patch.object(Session, "run", run):
        yield runs


def known(name: str = "residual_cnn") -> KnownOutputs:
    return KnownOutputs(lambda: Session(builders.BUILDERS[name](), Runtime()))


def test_the_same_samples_are_run_once_and_give_the_same_outputs() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples, kept = builders.samples_of(model, count=10, batch_size=4), known()
    expected = [outputs for _, outputs in run_batches(Session(model, Runtime()), samples)]
    with counted() as runs:
        for _ in range(3):
            found = list(kept.batches(samples))
            assert [len(b.feeds["x"]) for b, _ in found] == [4, 4, 2]
            for (_, after), before in zip(found, expected, strict=True):
                np.testing.assert_array_equal(after["y"], before["y"])
    assert runs == [4, 4, 2]
    assert kept._session is None


def test_other_samples_or_batches_are_run_again() -> None:
    samples = builders.samples_of(builders.BUILDERS["residual_cnn"](), count=8, batch_size=4)
    kept = known()
    for other in (samples, samples.select(samples.indices[4:]), samples.with_batch_size(8), samples):
        with counted() as runs:
            list(kept.batches(other))
        assert sum(runs) == len(other)


def test_a_sweep_that_is_left_early_is_no_whole_one() -> None:
    samples = builders.samples_of(builders.BUILDERS["residual_cnn"](), count=8, batch_size=4)
    kept = known()
    next(kept.batches(samples))
    assert kept._session is not None
    assert len(list(kept.batches(samples))) == 2


def test_outputs_above_the_limit_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_outputs, "MOST_BYTES", 8)
    samples = builders.samples_of(builders.BUILDERS["residual_cnn"](), count=8, batch_size=4)
    kept = known()
    with counted() as runs:
        first, second = list(kept.batches(samples)), list(kept.batches(samples))
    assert len(first) == len(second) == 2
    assert len(runs) == 4
    assert kept._session is not None


def test_known_outputs_cannot_be_changed() -> None:
    samples = builders.samples_of(builders.BUILDERS["residual_cnn"](), count=4, batch_size=4)
    kept = known()
    list(kept.batches(samples))
    (_, outputs), *_ = kept.batches(samples)
    with pytest.raises(ValueError, match="read-only"):
        outputs["y"][...] = 0


def test_a_model_that_runs_at_one_only_is_replayed_one_by_one() -> None:
    model = builders.BUILDERS["runs_at_one_only"]()
    samples = builders.samples_of(model, count=3, batch_size=3)
    kept = KnownOutputs(lambda: Session(model, Runtime()))
    shapes = [[b.size for b, _ in kept.batches(samples)] for _ in range(2)]
    assert shapes == [[1, 1, 1], [1, 1, 1]]


def test_a_model_of_fixed_batch_that_fails_says_so() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples = replace(builders.samples_of(model, count=4, batch_size=2), fixed_batch=True)
    with patch.object(Session, "run", side_effect=NativeError("ONX401", "it fails")), pytest.raises(NativeError):
        list(run_batches(Session(model, Runtime()), samples))


def test_candidates_are_compared_without_running_the_baseline_again() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples = builders.samples_of(model, count=12, batch_size=4)
    judge = FidelityJudge(model, samples, Runtime())
    baseline = judge.baseline()
    with counted() as runs:
        for _ in range(2):
            assert judge.drop(judge.evaluate(model)).value == 0
    assert sum(runs) == 2 * len(samples)
    assert baseline.value == pytest.approx(1.0)


def test_a_labelled_baseline_is_run_once_for_nan_and_score() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples = builders.samples_of(model, count=12, batch_size=4, labels=np.zeros(12, np.int64))
    judge = LabelJudge(model, samples, Runtime(), metric_of("top1"))
    with counted() as runs:
        judge.baseline()
    # One more to see whether it repeats itself, and one to see how its outputs are read.
    assert sum(runs) <= len(samples) + 4


def runs_of(judge: FidelityJudge | LabelJudge, candidate: Session) -> int:
    """Return how many samples the baseline and a candidate are run on for one proof."""
    with counted() as runs:
        judge.baseline()
        judge.evaluate(candidate)
    return sum(runs)


@pytest.mark.parametrize("labelled", [False, True])
def test_the_time_of_more_samples_counts_the_runs_again_of_outputs_that_are_not_kept(
    labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = builders.BUILDERS["residual_cnn"]()

    def judge(count: int) -> FidelityJudge | LabelJudge:
        labels = np.zeros(count, np.int64) if labelled else None
        samples = builders.samples_of(model, count=count, batch_size=4, labels=labels)
        if labels is None:
            return FidelityJudge(model, samples, Runtime())
        return LabelJudge(model, samples, Runtime(), metric_of("top1"))

    small, candidate = judge(64), Session(model, Runtime())
    each = round(runs_of(small, candidate) / 64)
    assert small.slowdown(4) == 1
    monkeypatch.setattr(known_outputs, "MOST_BYTES", int(2 * small._known._size))
    assert round(runs_of(judge(256), candidate) / 256) == small.slowdown(4) * each
    assert small.slowdown(4) > 1
    assert small.slowdown(2) == 1
    monkeypatch.setattr(known_outputs, "MOST_BYTES", 1)
    assert small.slowdown(4) == 1, "the time that was measured has these runs in it"
