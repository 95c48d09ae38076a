"""How long a distillation of a search takes, and in which number format."""

import math
from types import SimpleNamespace

import pytest

from onnxopt.errors import ModelError
from onnxopt.passes.distill import Distill
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.simplify import Simplify
from onnxopt.search.candidates import MOST_STEPS, recovered
from onnxopt.search.limits import training_pace
from onnxopt.search.limits.training_pace import affordable_steps, precision_of, step_times
from onnxopt.search.trial import Candidate
from tests import builders


def trials_of(left_s: float = math.inf, sample_s: float = 0.01, cluster: object = None) -> SimpleNamespace:
    model = builders.BUILDERS["residual_cnn"]()
    return SimpleNamespace(
        model=model,
        parts=SimpleNamespace(calibration=builders.samples_of(model)),
        settings=SimpleNamespace(cluster=cluster),
        deadline=SimpleNamespace(candidates_left_s=lambda: left_s),
        sample_s=sample_s,
        recall=lambda name, make, read: read(make()),
    )


@pytest.mark.parametrize(
    ("left_s", "sample_s", "times", "steps"),
    [
        (1024.0, 0.01, {}, 200),
        (1024.0, 0.01, {"float32": 2.0}, 256),
        (1024.0, 0.01, {"float32": 2.0, "bfloat16": 1.0}, 512),
        (1024.0, 0.01, {"float32": 2.0, "bfloat16": 1.9}, 256),
        (math.inf, 0.01, {}, MOST_STEPS),
        (1e9, 0.01, {}, 10 * MOST_STEPS),
        (10.0, 0.0, {}, MOST_STEPS),
    ],
)
def test_a_distillation_takes_a_share_of_the_time_for_candidates(left_s, sample_s, times, steps) -> None:
    """A step on 64 samples takes as long as measured in the format that is used, or else as 256 runs."""
    assert affordable_steps(trials_of(left_s, sample_s), times) == steps


@pytest.mark.parametrize(
    ("times", "precision"),
    [
        ({}, "auto"),
        ({"float32": 1.0}, "auto"),
        ({"float32": 1.0, "bfloat16": 0.7}, "bfloat16"),
        ({"float32": 1.0, "bfloat16": 0.95}, "auto"),
        ({"float32": 1.0, "bfloat16": 3.0}, "auto"),
    ],
)
def test_bfloat16_is_used_where_it_is_clearly_faster(times: dict[str, float], precision: str) -> None:
    assert precision_of(times) == precision
    pruned = Candidate("pruned-to-50%+float", (Simplify(fuse=False), PruneChannels(macs=0.5)))
    (training,) = (p for p in recovered(pruned, 100, 20, precision_of(times)).passes if isinstance(p, Distill))
    assert training.precision == precision


@pytest.mark.parametrize(("flags", "formats"), [(["avx2"], {"float32"}), (["avx512_bf16"], {"float32", "bfloat16"})])
def test_steps_are_measured_in_the_formats_of_the_processor(monkeypatch, flags, formats) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(training_pace, "instruction_sets", lambda: flags)
    found = step_times(trials_of())
    assert found.keys() == formats
    assert all(seconds > 0 for seconds in found.values())


def test_steps_are_not_measured_where_that_takes_too_long_or_others_train() -> None:
    pytest.importorskip("torch")
    assert step_times(trials_of(left_s=100.0, sample_s=1.0)) == {}
    assert step_times(trials_of(cluster=object())) == {}


def test_a_model_that_cannot_learn_has_no_step(monkeypatch) -> None:
    pytest.importorskip("torch")
    from onnxopt.training import step_seconds

    def refused(*_: object, **__: object) -> dict[str, float]:
        raise ModelError("ONX309", "no weight can learn")

    monkeypatch.setattr(step_seconds, "step_seconds", refused)
    assert step_times(trials_of()) == {}
