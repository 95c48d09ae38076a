"""A second latency measurement for unsure candidates, after the others: the host may be quieter by then."""

from dataclasses import replace
from functools import partial

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.search.trial import Trial, Verdict
from onnxopt.search.trials import Trials
from onnxopt.search.workers.runner import LOST

FACTOR = 3
"""Factor on the usual measurement time."""


def time_unsure_again(trials: Trials) -> None:
    """Time every unsure candidate again while the time limit allows."""
    for place, trial in enumerate(trials.made):
        if trial.verdict is not Verdict.UNSURE:
            continue
        if trials.enough():
            return
        again = trials.deadline.in_time(partial(_again, trials, trial))
        if again is None:
            trials.enough()  # the reason is recorded
            return
        trials.replace_made(place, *again)


def _again(trials: Trials, trial: Trial) -> tuple[Trial, ir.Model | None]:
    name = trial.candidate.name
    try:
        model = trials.again(trial.candidate)
        timed = trials.latency({"baseline": trials.model, name: model}, FACTOR * trials.settings.latency_s)
    except (ModelError, NativeError) as error:
        if error.code == LOST:
            raise
        return replace(trial, verdict=Verdict.FAILED, reason=f"timed again: {error}"), None
    found = trials.judged(replace(trial, latency=timed[name], baseline_latency=timed["baseline"]))
    if found.verdict is Verdict.UNSURE:
        found = replace(found, reason=f"{found.reason}; it was timed twice")
    return found, model
