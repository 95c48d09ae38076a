"""The last word: finalists measured on samples that took no part in the search."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.search.runner import LOST
from onnxopt.search.trial import Proof, Standing, Trial, Verdict
from onnxopt.search.trials import Trials

_LATENCY_FACTOR = 3


def prove(trials: Trials) -> tuple[ir.Model, tuple[Proof, ...]]:
    """Measure finalists on the hold-out part until one is proven.

    Where none is, the first that is likely enough ships, unless a proof is required; else the original does.
    """
    judge = trials.judge_on(trials.parts.holdout)
    proofs: list[Proof] = []
    finalists = trials.bar.attempts(trials.bar.finalists(trials.made))
    likely: tuple[int, ir.Model] | None = None
    for number, trial in enumerate(finalists):
        trials.observer.progress("proof on the hold-out part", number, len(finalists))
        name = trial.candidate.name
        try:
            model = trials.again(trial.candidate)
            score = judge.evaluate(model)
            drop = judge.drop(score)
            seconds = _LATENCY_FACTOR * trials.settings.latency_s
            timed = _timed(trials, name, model, seconds)
        except (ModelError, NativeError) as error:
            if error.code == LOST:
                raise
            trials.fail(trial, error)
            continue
        assert trial.size_bytes is not None
        confidence = drop.probability_within(trials.bar.allowed_drop)
        inside = trials.bar.inside(drop, timed[name].speedup, trial.size_bytes)
        standing: Standing = trials.bar.standing(confidence, len(proofs), drop) if inside else ""
        asked = trials.bar.asked(len(proofs))
        both = (timed["baseline"], timed[name])
        proven = standing == "proven"
        hot = _hot(trials, name, model) if proven else None
        proofs.append(Proof(name, judge.baseline(), score, drop, confidence, asked, *both, proven, hot, standing))
        if standing == "likely" and likely is None:
            likely = len(proofs) - 1, model
        if proven:
            trials.observer.progress("proof on the hold-out part", len(finalists), len(finalists))
            return model, tuple(proofs)
    if likely is None:
        return trials.model, tuple(proofs)
    place, model = likely
    hot = _hot(trials, proofs[place].candidate, model)
    proofs[place] = replace(proofs[place], accepted=True, hot_speedup=hot)
    return model, tuple(proofs)


def untried(trials: Trials) -> tuple[str, ...]:
    """Return the finalists inside the budget that are not tried on the hold-out part."""
    finalists = trials.bar.finalists(trials.made)
    tried = {trial.candidate.name for trial in trials.bar.attempts(finalists)}
    return tuple(t.candidate.name for t in finalists if t.candidate.name not in tried)


def _timed(trials: Trials, name: str, model: ir.Model, seconds: float) -> dict[str, Latency]:
    """Return the times of the original and of a finalist; measured once more where the clock is unsure."""
    models = {"baseline": trials.model, name: model}
    timed = trials.latency(models, seconds)
    return trials.latency(models, seconds) if timed[name].unsure else timed


def _hot(trials: Trials, name: str, model: ir.Model) -> Interval | None:
    """Return the speed-up with one input again and again, for comparison; None where that is how all was measured."""
    if trials.settings.hot:
        return None
    timed = trials.latency({"baseline": trials.model, name: model}, trials.settings.latency_s, hot=True)
    return timed[name].speedup


def decided(trials: Trials, trial: Trial, proofs: Sequence[Proof]) -> Trial:
    """Return a trial with what the proof made of it."""
    proof = next((p for p in proofs if p.candidate == trial.candidate.name), None)
    if proof is None:
        return trial
    if proof.accepted:
        sure = "proved" if proof.standing == "proven" else "found likely"
        return replace(trial, verdict=Verdict.WINNER, reason=f"the best that was {sure} on the hold-out part")
    size, speedup = trial.size_bytes or 0, proof.latency.speedup
    if trials.bar.verdict(proof.drop, speedup, size, proof.latency.unsure)[0] is Verdict.UNSURE:
        return replace(trial, verdict=Verdict.UNSURE, reason=trials.bar.why_unproven(proof))
    return replace(trial, verdict=Verdict.UNPROVEN, reason=trials.bar.why_unproven(proof))
