"""The measurement of a candidate on hold-out samples, on as many as the time allows."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.judge import Judge
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Drop
from onnxopt.samples import Samples
from onnxopt.search.acceptance import EARLY, Acceptance
from onnxopt.search.baseline import PROOF_LATENCY
from onnxopt.search.judged import drop_of
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.trial import Proof, Standing, Trial
from onnxopt.search.trials import Trials

_SPARE = 0.5
"""Largest share of the time for candidates of an early proof: with a smaller one it was never made on a busy host,
where searches are interrupted and need it most.
"""


_SURELY = 3
"""With the number of samples that would just prove the measured drop, chance decides; with three times as many, 95 % of
such candidates are proven at the strictest share of the risk.
"""


@dataclass(frozen=True)
class Evidence:
    """The measurements of a proof; the required probability depends on its share of the accepted risk.

    Attributes:
        trial: the trial on the search samples.
        model: the measured model.
        samples: number of hold-out samples.
        brief: whether the times are as short as those of the search; `timed_as_last` follows if the candidate ships.
    """

    trial: Trial
    model: ir.Model
    baseline: Evaluation
    score: Evaluation
    drop: Drop
    baseline_latency: Latency
    latency: Latency
    samples: int
    brief: bool = False

    def proof(self, bar: Acceptance, share: float) -> Proof:
        """Return the proof with a share of the accepted risk; with none it can only be likely."""
        size = self.trial.size_bytes
        assert size is not None
        confidence = self.drop.probability_within(bar.allowed_drop)
        inside = bar.inside(self.drop, self.latency.speedup, size)
        standing: Standing = bar.standing(confidence, share, self.drop) if inside else ""
        return Proof(
            self.trial.candidate.name,
            self.baseline,
            self.score,
            self.drop,
            confidence,
            bar.asked(share),
            self.baseline_latency,
            self.latency,
            standing == "proven",
            None,
            standing,
        )


def holdout_evidence(trials: Trials, judge: Judge, trial: Trial, samples: int, *, brief: bool = False) -> Evidence:
    """Measure a candidate again, on `samples` hold-out samples; raises the errors of building and running it."""
    name = trial.candidate.name
    baseline = judge.baseline()
    model = trials.again(trial.candidate)
    score = judge.evaluate(model)
    drop = drop_of(trial.candidate, judge, score)
    timed = _timed(trials, name, model, (1 if brief else PROOF_LATENCY) * trials.settings.latency_s)
    return Evidence(trial, model, baseline, score, drop, timed["baseline"], timed[name], samples, brief)


def timed_as_last(trials: Trials, found: Evidence) -> Evidence:
    """Return the evidence with times as long as those of a winner; as it is without time for that."""
    if trials.reserve is not None and trials.deadline.left_s() <= trials.reserve.timing_s:
        return found
    name = found.trial.candidate.name
    try:
        with trials.deadline.ending():
            timed = _timed(trials, name, found.model, PROOF_LATENCY * trials.settings.latency_s)
    except (TimeOver, ModelError, NativeError):
        return found
    return replace(found, baseline_latency=timed["baseline"], latency=timed[name], brief=False)


def _timed(trials: Trials, name: str, model: ir.Model, seconds: float) -> dict[str, Latency]:
    """Return the latency of the baseline and of a finalist; measured again if the clock is unsure."""
    models = {"baseline": trials.model, name: model}
    timed = trials.latency(models, seconds)
    again = timed[name].unsure and (trials.reserve is None or trials.deadline.left_s() > trials.reserve.timing_s)
    return trials.latency(models, seconds) if again else timed


def held_out(trials: Trials) -> Samples | None:
    """Return the hold-out samples that fit the time, drawn at random; None if they are too few."""
    samples = trials.parts.holdout
    if trials.reserve is None:
        return samples
    count = trials.reserve.samples(trials.deadline.left_s())
    if count and count < len(samples):
        trials.late.fewer = f"; the time limit left {count} of the {len(samples)} hold-out samples"
    return drawn_samples(trials, count) if count else None


def affordable_samples(trials: Trials, trial: Trial) -> Samples | None:
    """Return the hold-out samples of an early proof of a candidate; None if they are too few.

    They are as many as certainly fit the time of the final proof. They are fewer where that would take too much of the
    time for candidates, as a proof on some samples is safer than none at the end, and where fewer are enough.
    """
    samples, reserve, left_s = trials.parts.holdout, trials.reserve, trials.deadline.left_s()
    if reserve is None:
        return samples
    kept_s = reserve.kept_s(left_s)
    spare_s = _SPARE * (left_s - kept_s) + reserve.report_s  # no report follows
    count = min(reserve.samples(kept_s), reserve.samples(spare_s), _plenty(trials, trial))
    return drawn_samples(trials, count) if count else None


def _plenty(trials: Trials, trial: Trial) -> int:
    """Return a number of hold-out samples that proves a candidate which loses as little there as in the search."""
    needed = None if trial.drop is None else trial.drop.samples_needed(trials.bar.allowed_drop, trials.bar.asked(EARLY))
    return len(trials.parts.holdout) if needed is None else _SURELY * needed


def drawn_samples(trials: Trials, count: int) -> Samples:
    """Return `count` of the hold-out samples, drawn at random before any outcome is known."""
    return drawn(trials.parts.holdout, count, trials.settings.seed)


def drawn(samples: Samples, count: int, seed: int) -> Samples:
    """Return `count` of the samples, drawn at random; all of them where they are no more."""
    if count >= len(samples):
        return samples
    return samples.select(np.sort(np.random.default_rng(seed).permutation(samples.indices)[:count]))
