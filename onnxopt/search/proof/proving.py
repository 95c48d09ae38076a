"""The proof: finalists measured on hold-out samples, which the search does not use."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.judge import Judge
from onnxopt.measure.statistics import Interval
from onnxopt.samples import Samples
from onnxopt.search.acceptance import EARLY, MOST_PROOFS
from onnxopt.search.bets import WORTH
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.proof.attempts import best_attempts, chance_by_trial
from onnxopt.search.proof.holdout import Evidence, affordable_samples, held_out, holdout_evidence, timed_as_last
from onnxopt.search.trial import Proof, Trial, Verdict
from onnxopt.search.trials import Trials
from onnxopt.search.workers.runner import LOST


def prove_first(trials: Trials) -> Evidence | None:
    """Prove the first candidate within budget that is worth it, so that an interrupted search has a proven result.

    It takes the last share of the accepted risk (`onnxopt.search.acceptance.RISKS`), so it does not raise the required
    probability of any finalist. The search does not use its outcome.

    Returns:
        The measurements; None where the hold-out samples cannot prove anything, the best candidate gains less than a
        later one may, or no time is left.
    """
    trial = trials.leader
    if trial is None or trials.bar.rank(trial) * WORTH > 1:
        return None
    holdout = affordable_samples(trials, trial)
    if holdout is None or not trials.prospect(len(holdout), EARLY).possible:
        return None
    leading = trial
    trials.observer.progress(f"early proof of {leading.candidate.name}", 0, 1)
    judge = trials.judge_on(holdout)
    try:
        found = trials.deadline.in_time(lambda: holdout_evidence(trials, judge, leading, len(holdout), early=True))
    except (ModelError, NativeError) as error:
        if error.code == LOST:
            raise
        return None
    if found is not None and found.proof(trials.bar, EARLY).accepted:
        trials.journal.proved(leading.candidate)
        trials.observer.secured(found.model, leading)
    elif trials.reserve is not None:
        # Nothing is safe yet, and the first finalist may fail as well.
        share = len(holdout) / max(len(trials.parts.holdout), 1)
        trials.deadline.reserve_for(trials.reserve.another_s(share))
    return found


def prove_finalists(trials: Trials, early: Evidence | None = None) -> tuple[ir.Model, tuple[Proof, ...]]:
    """Measure finalists on the hold-out samples until one is proven.

    Without a proven finalist, the candidate of a successful early proof ships; else the first likely one, unless a
    proof is required; else the baseline.

    Args:
        trials: the trials of the search.
        early: result of `prove_first`; a finalist is not measured again on the same samples.
    """
    found = list(_tried(trials, early))
    proofs = [proof for _, proof in found]
    ships = next((i for i, p in enumerate(proofs) if p.standing == "proven"), None)
    if ships is None:
        ships = next((i for i, p in enumerate(proofs) if p.standing == "likely"), None)
    if ships is None:
        return trials.model, tuple(proofs)
    model = found[ships][0].model
    hot = _hot(trials, proofs[ships].candidate, model)
    proofs[ships] = replace(proofs[ships], accepted=True, hot_speedup=hot)
    trials.observer.progress("proof on the hold-out part", len(proofs), len(proofs))
    return model, tuple(proofs)


def _tried(trials: Trials, early: Evidence | None) -> Iterator[tuple[Evidence, Proof]]:
    """Yield the proof of each attempt, up to the first success; the early one last, unless it is a finalist."""
    holdout = held_out(trials)
    if holdout is None:
        finalists = trials.attempts = trials.bar.finalists(trials.made)[:MOST_PROOFS]
        proved = [trial for trial in finalists if early is not None and trial.candidate == early.trial.candidate]
        trials.late.leave_out([t for t in finalists if t not in proved], "no time was left for a proof")
        finalists = proved
    else:
        finalists = _attempts(trials, early, holdout)
    judge = None if holdout is None else (trials.judge_on(holdout), len(holdout))
    attempts, spent = 0, False
    for number, trial in enumerate(finalists):
        known = _known(early, trial, holdout)
        found = (
            _measured(trials, judge, finalists[number:], attempts) if known is None else timed_as_last(trials, known)
        )
        if found is None and trials.late.finalists:
            break
        if found is None:
            continue
        spent = spent or known is not None
        proof = found.proof(trials.bar, attempts)
        attempts += 1
        yield found, proof
        if proof.accepted:
            return
    if early is not None and not spent:
        last = timed_as_last(trials, early)
        yield last, last.proof(trials.bar, EARLY)


def _attempts(trials: Trials, early: Evidence | None, holdout: Samples) -> list[Trial]:
    """Return the finalists to try; an early proof of another candidate, or on other samples, counts as an attempt."""
    finalists, count = trials.bar.finalists(trials.made), len(holdout)
    known = next((trial for trial in finalists if _known(early, trial, holdout) is not None), None)
    predicted = chance_by_trial(trials.bar, count)

    def chance(trial: Trial, attempt: int) -> tuple[float, float]:
        if early is None or trial is not known:
            return predicted(trial, attempt)
        proof = early.proof(trials.bar, attempt)
        return float(proof.accepted), float(proof.standing != "")

    most = MOST_PROOFS if early is None or known is not None else EARLY
    proven = early is not None and early.proof(trials.bar, EARLY).accepted
    floor = trials.bar.gain(early.trial) if early is not None and proven else 0.0
    choose = partial(best_attempts, trials.bar, chance=chance, floor=floor, sharing=known)
    first = [] if _two_fit(trials, count) else choose(finalists, most=1)
    rest = choose([trial for trial in finalists if trial not in first], most=most - len(first))
    trials.attempts = [*first, *rest]
    return trials.attempts


def _known(early: Evidence | None, trial: Trial, holdout: Samples | None) -> Evidence | None:
    """Return the early evidence if it is for a finalist and on the samples of the other attempts."""
    if early is None or early.trial.candidate != trial.candidate:
        return None
    return early if holdout is None or early.samples == len(holdout) else None


def _measured(
    trials: Trials, judge: tuple[Judge, int] | None, finalists: Sequence[Trial], attempts: int
) -> Evidence | None:
    """Return the measurements of the first of `finalists`; None if they fail, or if no time is left.

    Args:
        trials: the trials of the search.
        judge: judge of the hold-out samples, and their number.
        finalists: finalists still to try.
        attempts: number of earlier attempts.
    """
    trial = finalists[0]
    if judge is None or (attempts and not _another_fits(trials, judge[1])):
        trials.late.leave_out(finalists, "no time was left for a further proof")
        return None
    trials.observer.progress(f"proof of {trial.candidate.name}", attempts, attempts + len(finalists))
    try:
        with trials.deadline.ending():
            return holdout_evidence(trials, judge[0], trial, judge[1])
    except TimeOver:
        trials.late.leave_out(finalists, f"the proof of {trial.candidate.name} was cut at the time limit")
    except (ModelError, NativeError) as error:
        if error.code == LOST:
            raise
        trials.fail(trial, error)
    return None


def _two_fit(trials: Trials, used: int) -> bool:
    reserve = trials.reserve
    return reserve is None or reserve.two_fit(trials.deadline.left_s(), used / max(len(trials.parts.holdout), 1))


def _another_fits(trials: Trials, used: int) -> bool:
    reserve = trials.reserve
    return reserve is None or reserve.another_fits(trials.deadline.left_s(), used / max(len(trials.parts.holdout), 1))


def untried(trials: Trials, proofs: Sequence[Proof]) -> tuple[str, ...]:
    """Return the finalists within budget that are not tried on the hold-out samples, because others come first."""
    tried = {trial.candidate.name for trial in trials.attempts} | {proof.candidate for proof in proofs}
    return tuple(t.candidate.name for t in trials.bar.finalists(trials.made) if t.candidate.name not in tried)


def _hot(trials: Trials, name: str, model: ir.Model) -> Interval | None:
    """Return the speed-up with one repeated input, for comparison; None if all latency is measured that way."""
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
    """Return a trial with the verdict of its proof."""
    own = [proof for proof in proofs if proof.candidate == trial.candidate.name]
    proof = next((p for p in own if p.accepted), own[0] if own else None)
    if proof is None:
        return trial
    if proof.accepted:
        sure = "proven" if proof.standing == "proven" else "likely"
        return replace(trial, verdict=Verdict.WINNER, reason=f"the best {sure} candidate on the hold-out samples")
    size, speedup = trial.size_bytes or 0, proof.latency.speedup
    if trials.bar.verdict(proof.drop, speedup, size, proof.latency.unsure)[0] is Verdict.UNSURE:
        return replace(trial, verdict=Verdict.UNSURE, reason=trials.bar.why_unproven(proof))
    return replace(trial, verdict=Verdict.UNPROVEN, reason=trials.bar.why_unproven(proof))
