"""The proof: finalists measured on hold-out samples, which the search does not use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.judge import Judge
from onnxopt.measure.statistics import Interval
from onnxopt.samples import Samples
from onnxopt.search.acceptance import EARLY, MOST_PROOFS, MOST_UNPROVEN
from onnxopt.search.bets import WORTH
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.proof.chain import CONSIDERED, best_chain, chance_by_trial
from onnxopt.search.proof.holdout import Evidence, affordable_samples, held_out, holdout_evidence, timed_as_last
from onnxopt.search.trial import Proof, Standing, Trial, Verdict
from onnxopt.search.trials import Trials
from onnxopt.search.workers.runner import LOST


def prove_first(trials: Trials) -> Evidence | None:
    """Prove the first candidate within budget that is worth it, so that an interrupted search has a proven result.

    It takes a share of the accepted risk, which returns to the finalists where it is proven. The search does not use
    its outcome.

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
        found = trials.deadline.in_time(lambda: holdout_evidence(trials, judge, leading, len(holdout), brief=True))
    except (ModelError, NativeError) as error:
        if error.code == LOST:
            raise
        return None
    if found is not None and _is_proven(trials, found):
        trials.journal.proved(leading.candidate)
        trials.observer.secured(found.model, leading)
    elif trials.reserve is not None:
        # Nothing is safe yet, and the first finalist may fail as well.
        share = len(holdout) / max(len(trials.parts.holdout), 1)
        trials.deadline.reserve_for(trials.reserve.another_s(share))
    return found


def prove_finalists(trials: Trials, early: Evidence | None = None) -> tuple[ir.Model, tuple[Proof, ...]]:
    """Measure finalists on the hold-out samples, the one with the smallest gain first, until one is not proven.

    The last proven one ships. Without one, the candidate of a successful early proof ships; else the likely one with
    the largest gain, unless a proof is required; else the baseline.

    Args:
        trials: the trials of the search.
        early: result of `prove_first`; its candidate is not measured again on the same samples.
    """
    tried = list(_tried(trials, early))
    proofs = [_unaccepted(trials, one) for one in tried]
    while (ships := _that_ships(trials, tried, proofs)) is not None and tried[ships].evidence.brief:
        # Without time for longer times the short ones stay.
        evidence = replace(timed_as_last(trials, tried[ships].evidence), brief=False)
        tried[ships] = replace(tried[ships], evidence=evidence)
        proofs[ships] = _unaccepted(trials, tried[ships])
    if ships is None:
        return trials.model, tuple(proofs)
    model = tried[ships].evidence.model
    hot = _hot(trials, proofs[ships].candidate, model)
    proofs[ships] = replace(proofs[ships], accepted=True, hot_speedup=hot)
    trials.observer.progress("proof on the hold-out part", len(proofs), len(proofs))
    return model, tuple(proofs)


def _is_proven(trials: Trials, early: Evidence | None) -> bool:
    return early is not None and early.proof(trials.bar, EARLY).accepted


def _that_ships(trials: Trials, tried: "Sequence[_Tried]", proofs: Sequence[Proof]) -> int | None:
    """Return the number of the proof that ships: the last proven one, else the likely one with the largest gain."""
    proven = _of_standing(proofs, "proven")
    if proven:
        return proven[-1]
    gains = [trials.bar.gain(one.evidence.trial) for one in tried]
    return max(_of_standing(proofs, "likely"), default=None, key=gains.__getitem__)


def _of_standing(proofs: Sequence[Proof], standing: Standing) -> list[int]:
    return [number for number, proof in enumerate(proofs) if proof.standing == standing]


@dataclass(frozen=True)
class _Tried:
    """A finalist that was tried, with its share of the accepted risk."""

    evidence: Evidence
    share: float


def _unaccepted(trials: Trials, one: _Tried) -> Proof:
    return replace(one.evidence.proof(trials.bar, one.share), accepted=False)


def _tried(trials: Trials, early: Evidence | None) -> Iterator[_Tried]:
    """Yield the proofs of the chain, up to a failure, those of alternatives if it is the first, and the early one."""
    holdout = held_out(trials)
    if holdout is None:
        trials.late.leave_out(_others(trials, early, None), "no time was left for a proof")
    plan = Plan() if holdout is None else _plan(trials, early, holdout)
    judge = None if holdout is None else (trials.judge_on(holdout), len(holdout))
    proven = _is_proven(trials, early)
    line, share, made, climbing = list(plan.chain), plan.share, int(early is not None), True
    succeeded, begun = False, list[Trial]()
    while not (trials.late.finalists and begun):
        if not line and not (succeeded or proven or made >= MOST_UNPROVEN):
            line, climbing = [trial for trial in plan.alternatives if trial not in begun], False
        if not line:
            break
        found = _measured(trials, judge, line, len(begun))
        begun.append(line.pop(0))
        if found is None:
            continue
        proof = found.proof(trials.bar, share)
        made, succeeded = made + 1, succeeded or proof.accepted
        yield _Tried(found, share)
        if trials.bar.standing(proof.confidence, share, found.drop) != "proven":
            # What is kept for a first failure is used once; later ones can only be likely.
            line, share = [], plan.spare if share == plan.share else 0.0
        elif proof.accepted and not climbing:
            break
    if early is not None and not succeeded:
        # Without other finalists the whole risk is its own.
        yield _Tried(early, EARLY if plan.chain else 1.0)


@dataclass(frozen=True)
class Plan:
    """The finalists to try, fixed before any of them is measured on a hold-out sample.

    Attributes:
        chain: finalists in the order of their gains, up to the first that is not proven.
        share: share of the accepted risk of each of them.
        alternatives: all finalists, the most promising first, for the case that the first of the chain fails.
        spare: share of the accepted risk of the first alternative; 0 where the early proof took it.
    """

    chain: Sequence[Trial] = ()
    share: float = 1.0
    alternatives: Sequence[Trial] = ()
    spare: float = 0.0


def _plan(trials: Trials, early: Evidence | None, holdout: Samples) -> Plan:
    """Return the finalists to try.

    A share passes on from a proof that succeeds, so behind a proven early candidate the chain has the whole risk.

    Source: Wiens, "A fixed sequence Bonferroni procedure for testing multiple endpoints", 2003.
    """
    others = _others(trials, early, holdout)
    proven = _is_proven(trials, early)
    floor = trials.bar.gain(early.trial) if early is not None and proven else 0.0
    alone = early is None and len(others) <= 1
    share = 1.0 if proven or alone else 1 - EARLY
    chance = chance_by_trial(trials.bar, len(holdout))
    most = _that_fit(trials, len(holdout))
    chain = best_chain(trials.bar, others, chance=chance, share=share, most=most, floor=floor)
    promising = sorted(others, key=lambda trial: -chance(trial, EARLY)[1] * trials.bar.gain(trial))
    return Plan(chain, share, promising[:CONSIDERED], EARLY if early is None and not alone else 0.0)


def _others(trials: Trials, early: Evidence | None, holdout: Samples | None) -> list[Trial]:
    """Return the finalists; the early candidate is one only if its proof failed on fewer samples."""
    finalists = trials.bar.finalists(trials.made)
    if early is None:
        return finalists
    again = holdout is not None and early.samples < len(holdout) and not _is_proven(trials, early)
    return [trial for trial in finalists if again or trial.candidate != early.trial.candidate]


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
            # One that others follow seldom ships.
            return holdout_evidence(trials, judge[0], trial, judge[1], brief=len(finalists) > 1)
    except TimeOver:
        trials.late.leave_out(finalists, f"the proof of {trial.candidate.name} was cut at the time limit")
    except (ModelError, NativeError) as error:
        if error.code == LOST:
            raise
        trials.fail(trial, error)
    return None


def _that_fit(trials: Trials, used: int) -> int:
    """Return for how many finalists on so many hold-out samples there is time, at least one."""
    reserve = trials.reserve
    return MOST_PROOFS if reserve is None else reserve.that_fit(trials.deadline.left_s(), _share(trials, used))


def _another_fits(trials: Trials, used: int) -> bool:
    reserve = trials.reserve
    return reserve is None or reserve.another_fits(trials.deadline.left_s(), _share(trials, used))


def _share(trials: Trials, used: int) -> float:
    return used / max(len(trials.parts.holdout), 1)


def untried(trials: Trials, proofs: Sequence[Proof]) -> tuple[str, ...]:
    """Return the finalists within budget that are not tried on the hold-out samples, though there was time."""
    known = {*trials.late.finalists, *(proof.candidate for proof in proofs)}
    return tuple(t.candidate.name for t in trials.bar.finalists(trials.made) if t.candidate.name not in known)


def _hot(trials: Trials, name: str, model: ir.Model) -> Interval | None:
    """Return the speed-up with one repeated input, for comparison; None if all latency is measured that way."""
    reserve, left_s = trials.reserve, trials.deadline.left_s()
    if trials.settings.hot or (reserve is not None and not 0 < reserve.hot_s <= left_s - reserve.report_s):
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
    if proof.standing == "proven":
        return replace(trial, reason="proven on the hold-out samples too; the winner gains more")
    size, speedup = trial.size_bytes or 0, proof.latency.speedup
    if trials.bar.verdict(proof.drop, speedup, size, proof.latency.unsure)[0] is Verdict.UNSURE:
        return replace(trial, verdict=Verdict.UNSURE, reason=trials.bar.why_unproven(proof))
    return replace(trial, verdict=Verdict.UNPROVEN, reason=trials.bar.why_unproven(proof))
