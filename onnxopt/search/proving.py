"""The last word: finalists measured on samples that took no part in the search."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.search.bar import MOST_PROOFS
from onnxopt.search.runner import LOST
from onnxopt.search.trial import Proof, Trial, Verdict
from onnxopt.search.trials import Trials

_LATENCY_FACTOR = 3


def prove(trials: Trials) -> tuple[ir.Model, tuple[Proof, ...]]:
    """Measure finalists on the hold-out part, the best first, until one holds; else return the original."""
    judge = trials.judge_on(trials.parts.holdout)
    proofs: list[Proof] = []
    finalists = trials.bar.finalists(trials.made)[:MOST_PROOFS]
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
        held = trials.bar.holds(drop, timed[name].speedup, trial.size_bytes, len(proofs))
        confidence = drop.probability_within(trials.bar.allowed_drop)
        asked = trials.bar.asked(len(proofs))
        both = (timed["baseline"], timed[name])
        hot = _hot(trials, name, model) if held else None
        proofs.append(Proof(name, judge.baseline(), score, drop, confidence, asked, *both, held, hot))
        if held:
            trials.observer.progress("proof on the hold-out part", len(finalists), len(finalists))
            return model, tuple(proofs)
    return trials.model, tuple(proofs)


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
        return replace(trial, verdict=Verdict.WINNER, reason="the best that was proved on the hold-out part")
    size, speedup = trial.size_bytes or 0, proof.latency.speedup
    if trials.bar.verdict(proof.drop, speedup, size, proof.latency.unsure)[0] is Verdict.UNSURE:
        return replace(trial, verdict=Verdict.UNSURE, reason=trials.bar.why_unproven(proof))
    return replace(trial, verdict=Verdict.UNPROVEN, reason=trials.bar.why_unproven(proof))
