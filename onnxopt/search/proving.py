"""The last word: finalists measured on samples that took no part in the search."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.samples import Samples
from onnxopt.search.deadline import TimeOver
from onnxopt.search.trial import Proof, Standing, Trial, Verdict
from onnxopt.search.trials import PROOF_LATENCY, Trials
from onnxopt.search.workers.runner import LOST


def prove(trials: Trials) -> tuple[ir.Model, tuple[Proof, ...]]:
    """Measure finalists on the hold-out part until one is proven.

    Where none is, the first that is likely enough ships, unless a proof is required; else the original does.
    """
    finalists = trials.bar.attempts(trials.bar.finalists(trials.made))
    holdout = held_out(trials)
    if holdout is None:
        trials.late.leave_out(finalists, "there is no time left for a proof")
        return trials.model, ()
    judge = trials.judge_on(holdout)
    proofs: list[Proof] = []
    likely: tuple[int, ir.Model] | None = None
    for number, trial in enumerate(finalists):
        if proofs and not _another_fits(trials, len(holdout)):
            trials.late.leave_out(finalists[number:], "there is no time left for a further proof")
            break
        trials.observer.progress("proof on the hold-out part", number, len(finalists))
        name = trial.candidate.name
        try:
            with trials.deadline.ending():
                baseline = judge.baseline()
                model = trials.again(trial.candidate)
                score = judge.evaluate(model)
                drop = judge.drop(score)
                seconds = PROOF_LATENCY * trials.settings.latency_s
                timed = _timed(trials, name, model, seconds)
        except TimeOver:
            trials.late.leave_out(finalists[number:], f"the proof of {name} was cut at the time limit")
            break
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
        proofs.append(Proof(name, baseline, score, drop, confidence, asked, *both, proven, hot, standing))
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


def held_out(trials: Trials) -> Samples | None:
    """Return the hold-out samples that there is time for, drawn by chance; None where they would be too few."""
    samples = trials.parts.holdout
    if trials.reserve is None:
        return samples
    count = trials.reserve.samples(trials.deadline.left_s())
    if count >= len(samples):
        return samples
    if count == 0:
        return None
    drawn = np.random.default_rng(trials.settings.seed).permutation(samples.indices)[:count]
    trials.late.fewer = f"; for lack of time {count} of the {len(samples)} hold-out samples were used"
    return samples.select(np.sort(drawn))


def _another_fits(trials: Trials, used: int) -> bool:
    reserve = trials.reserve
    return reserve is None or reserve.another_fits(trials.deadline.left_s(), used / max(len(trials.parts.holdout), 1))


def untried(trials: Trials) -> tuple[str, ...]:
    """Return the finalists inside the budget that are not tried on the hold-out part."""
    finalists = trials.bar.finalists(trials.made)
    tried = {trial.candidate.name for trial in trials.bar.attempts(finalists)}
    return tuple(t.candidate.name for t in finalists if t.candidate.name not in tried)


def _timed(trials: Trials, name: str, model: ir.Model, seconds: float) -> dict[str, Latency]:
    """Return the times of the original and of a finalist; measured once more where the clock is unsure."""
    models = {"baseline": trials.model, name: model}
    timed = trials.latency(models, seconds)
    again = timed[name].unsure and (trials.reserve is None or trials.deadline.left_s() > trials.reserve.timing_s)
    return trials.latency(models, seconds) if again else timed


def _hot(trials: Trials, name: str, model: ir.Model) -> Interval | None:
    """Return the speed-up with one input again and again, for comparison; None where that is how all was measured."""
    reserve, left_s = trials.reserve, trials.deadline.left_s()
    if trials.settings.hot or (reserve is not None and left_s < reserve.hot_s + reserve.report_s):
        return None
    try:
        with trials.deadline.ending():
            timed = trials.latency({"baseline": trials.model, name: model}, trials.settings.latency_s, hot=True)
    except TimeOver:
        return None
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
