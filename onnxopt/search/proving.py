"""The last word: finalists measured on samples that took no part in the search."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
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
            timed = trials.latency({"baseline": trials.model, name: model}, seconds)
        except (ModelError, NativeError) as error:
            if error.code == LOST:
                raise
            trials.fail(trial, error)
            continue
        speedup = timed[name].speedup
        assert speedup is not None
        assert trial.size_bytes is not None
        held = trials.bar.holds(drop, speedup, trial.size_bytes, len(proofs))
        confidence = drop.probability_within(trials.bar.allowed_drop)
        asked = trials.bar.asked(len(proofs))
        both = (timed["baseline"], timed[name])
        proofs.append(Proof(name, judge.baseline(), score, drop, confidence, asked, *both, held))
        if held:
            trials.observer.progress("proof on the hold-out part", len(finalists), len(finalists))
            return model, tuple(proofs)
    return trials.model, tuple(proofs)


def decided(trials: Trials, trial: Trial, proofs: Sequence[Proof]) -> Trial:
    """Return a trial with what the proof made of it."""
    proof = next((p for p in proofs if p.candidate == trial.candidate.name), None)
    if proof is None:
        return trial
    if proof.accepted:
        return replace(trial, verdict=Verdict.WINNER, reason="the best that was proved on the hold-out part")
    return replace(trial, verdict=Verdict.UNPROVEN, reason=trials.bar.why_unproven(proof))
