"""The search: build, check and measure candidates, then prove the best on hold-out samples."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.metrics.score import Metric, percent
from onnxopt.options.search import Goal
from onnxopt.search import stages
from onnxopt.search.baseline import PROOF_LATENCY, Stamp, Start, measured_baseline
from onnxopt.search.bets import WORTH, TrialOrder, calibration_within, order_of, reads_rows, work_of
from onnxopt.search.candidates import calibrated_on, exact, first_candidates, row_candidates
from onnxopt.search.journal.journal import Journal
from onnxopt.search.journal.notes import names, numbers
from onnxopt.search.learning import reduce_and_train
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.mix.float_layers import keep_harmful_layers
from onnxopt.search.observer import NullObserver, Observer
from onnxopt.search.parts import Parts
from onnxopt.search.proof.holdout import Evidence
from onnxopt.search.proof.proving import decided, prove_finalists, prove_first, untried
from onnxopt.search.recovery import recovery_by_stage
from onnxopt.search.remeasure import time_unsure_again
from onnxopt.search.screen import Screen
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, Proof, SearchResult, Trial, Verdict
from onnxopt.search.trials import Trials
from onnxopt.search.workers.runner import LOST

_GLANCE_S = 1.0
"""Time of the first look at the simplified graph, without loading it."""
_GLANCE_SHARE = 0.15
"""Largest share of the time for candidates that it may take: a large model is loaded for longer than it is timed."""


def search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None = None,
    settings: Settings | None = None,
    observer: Observer | None = None,
    *,
    size_bytes: int | None = None,
    stamp: Stamp | None = None,
    journal: Journal | None = None,
    deadline: Deadline | None = None,
) -> SearchResult:
    """Return the best model within budget, proven on the hold-out samples, or the baseline with the reason.

    Args:
        model: the baseline (not modified).
        parts: disjoint samples.
        metric: measured against labels; None for agreement with the baseline (fidelity).
        settings: budget, goal and options of the measurements.
        observer: called at every step.
        size_bytes: size of the baseline's file; None for its size when saved again.
        stamp: makes the final model from a built one, so that the measured model is the one that ships; None for no
            change.
        journal: store of finished measurements and models; None for none. Then only the best model is kept, and the
            proof builds the others again, trained ones too.
        deadline: the deadline of the command that contains this search; None for a new one.

    A candidate that is not faster than the baseline, larger, over budget, or that cannot be built or run never wins;
    each trial has its reason.

    Raises:
        DataError: ONX207 the baseline gives NaN on these samples, ONX208 `metric` is given and labels are missing,
            ONX209 it does not fit the outputs.
        ModelError: ONX304 the baseline cannot be loaded.
        NativeError: ONX401 the baseline cannot be run, ONX408 or ONX406 not within the time limit.
    """
    chosen, notes = settings or Settings(), journal or Journal()
    clock = deadline or Deadline(chosen.time_limit_s)
    if notes.resumed:  # its entries are read regardless of the time left
        clock.look_up()
    start = Start(model, parts, metric, chosen, observer=observer or NullObserver(), stamp=stamp, deadline=clock)
    with start.at_work() as workers:
        size = size_bytes or model_file.size_bytes(model)
        return _searched(Trials(start, workers, measured_baseline(start, workers, size), notes), size)


def _searched(trials: Trials, size_bytes: int) -> SearchResult:
    trials.observer.baseline(trials.baseline, trials.bar.allowed_drop)
    trials.observer.prospect(trials.prospect())
    needed = trials.needed()
    if needed:
        trials.observer.needed(needed)
    early = _try_all(trials, size_bytes)
    model, proofs = prove_finalists(trials, early)
    left = (*untried(trials, proofs), *trials.late.finalists)
    made = tuple(decided(trials, trial, proofs) for trial in trials.made)
    winner = next((t for t in made if t.verdict is Verdict.WINNER), None)
    if winner is not None:
        trials.observer.proved(model, winner)
    return SearchResult(
        kind=trials.judge.kind,
        metric=trials.judge.metric_name,
        allowed_drop=trials.bar.allowed_drop,
        baseline=trials.baseline,
        trials=made,
        proofs=proofs,
        winner=winner,
        model=model,
        reason=_reason(trials, proofs),
        unproved=left,
        recovered=() if winner is None else recovery_by_stage(trials, winner),
        stopped=trials.stopped,
        aim_reached=_aim_reached(trials, winner, proofs),
        device=None if trials.device is None or winner is None else trials.device.results.get(winner.candidate.name),
    )


def _try_all(trials: Trials, size_bytes: int) -> Evidence | None:
    """Try candidates, the best bet first, and return the proof of the first one within budget."""
    order = _planned(trials, size_bytes)
    trials.observer.planned(order.all)
    trials.journal.begin()
    order = _calibrated_in_time(trials, order)
    if trials.settings.cluster is not None:
        score = trials.judge.baseline()
        trials.runner.announce([c for c in order.all if trials.journal.trial(c, score) is None])
    # The order follows from measured times, which vary: a resumed search keeps its first order.
    order = order.ordered(trials.recall("order", lambda: _led(trials, order).words(), names))
    screen = Screen(trials.model, trials.parts.calibration, trials.recall)
    early = _try_each(trials, order.bets, screen, None)
    if trials.leader is None:
        # A busy moment may hide the only candidate within budget from all that follows.
        time_unsure_again(trials)
        early = _early(trials, early)
    later = list(order.alike)
    while later and not stages.left_for_later(trials, len(later)):
        early = _try_each(trials, [later.pop(0)], screen, early)
    keep_harmful_layers(trials)
    stages.place_layers(trials)
    _reduce(trials)
    early = _try_each(trials, later, screen, early)
    if later:
        keep_harmful_layers(trials)
    early = _try_each(trials, order.late, screen, early)
    time_unsure_again(trials)
    return early


def _reduce(trials: Trials) -> None:
    """Remove parts of the model and choose bits: what gains most for its time and accuracy first."""
    prune, train = trials.settings.prune, trials.settings.train
    # What is removed and chosen follows in that graph.
    stages.fuse_attention(trials)
    if prune and train:
        reduce_and_train(trials)
    elif prune:
        stages.remove_channels(trials)
    # After the channels, which gain more for the time that they take.
    stages.choose_bits(trials)
    if prune and not train:
        # Before the mixes, whose tables take longest where there are many layers.
        stages.remove_blocks(trials)
    if prune:
        stages.mix_techniques(trials)
        stages.fuse_attention(trials)


def _try_each(
    trials: Trials, candidates: Sequence[Candidate], screen: Screen, early: Evidence | None
) -> Evidence | None:
    """Try candidates, and return the early proof: the given one, or that of the first candidate within budget."""
    for candidate in candidates:
        if not trials.enough():
            stages.try_one(trials, candidate, screen)
            early = _early(trials, early)
    return early


def _early(trials: Trials, early: Evidence | None) -> Evidence | None:
    return early or (None if trials.stopped else prove_first(trials))


def _planned(trials: Trials, size_bytes: int) -> TrialOrder:
    """Return the order of the first candidates; the given order if the model's layers are unknown."""
    candidates = first_candidates()
    try:
        work = work_of(
            trials.model,
            trials.feeds,
            size_bytes=size_bytes,
            sample_s=trials.sample_s,
            calibration=_fitting_calibration(trials),
            searched=len(trials.parts.search),
            target=trials.context.target,
        )
    except (ModelError, NativeError):
        return order_of(candidates, None)
    rows = row_candidates(large=not model_file.fits_protobuf(trials.model)) if reads_rows(work) else ()
    return order_of((*candidates, *rows), work)


def _fitting_calibration(trials: Trials) -> int:
    return calibration_within(trials.deadline.candidates_left_s(), trials.sample_s, len(trials.parts.calibration))


def _calibrated_in_time(trials: Trials, order: TrialOrder) -> TrialOrder:
    """Return the order with as many calibration samples as there is time for; a resumed search keeps their number."""
    count = len(trials.parts.calibration)
    fitting = next(iter(trials.recall("calibration samples", lambda: [_fitting_calibration(trials)], numbers)), count)
    return order if fitting >= count else order.changed(lambda candidate: calibrated_on(candidate, int(fitting)))


def _led(trials: Trials, order: TrialOrder) -> TrialOrder:
    """Return the order, with simplification as its first bet where it is faster in a short measurement.

    It is within every budget. Most exported models gain little by it, because the runtime simplifies as well, but not
    in all of them: it folds no constant, for instance, that a caller could replace. A busy host leaves the speed-up
    unsure; the times are enough for an order.
    """
    simplest = next((candidate for candidate in order.all if exact(candidate)), None)
    if simplest is None or not _may_glance(trials):
        return order
    name = simplest.name

    def timed() -> float:
        models = {"baseline": trials.model, name: trials.build(simplest)}
        found = trials.latency(models, min(_GLANCE_S, trials.settings.latency_s))
        return found["baseline"].p50_ms / found[name].p50_ms

    try:
        speedup = trials.deadline.in_time(timed)
    except (ModelError, NativeError) as error:
        if error.code == LOST:
            raise
        return order
    return order.led_by(simplest) if speedup is not None and speedup >= WORTH else order


def _may_glance(trials: Trials) -> bool:
    if trials.reserve is None:
        return True
    loading_s = trials.reserve.timing_s - PROOF_LATENCY * trials.settings.latency_s
    return loading_s + _GLANCE_S <= _GLANCE_SHARE * trials.deadline.candidates_left_s()


def _aim_reached(trials: Trials, winner: Trial | None, proofs: Sequence[Proof]) -> bool | None:
    aim = trials.settings.aim
    if aim is None:
        return None
    if winner is None or not proofs:
        return False
    proof = next(p for p in proofs if p.accepted)
    timed = replace(winner, latency=proof.latency, baseline_latency=proof.baseline_latency)
    return aim.reached_by(timed, trials.bar.baseline_bytes)


def _reason(trials: Trials, proofs: Sequence[Proof]) -> str:
    won = next((proof for proof in proofs if proof.accepted), None)
    if won is not None:
        sure = "" if won.standing == "proven" else ", likely but not proven"
        where = "" if trials.device is None else f"; {trials.device.words(won.candidate)}"
        return (
            f"{won.candidate} is the best of {len(trials.made)} candidates: it "
            f"{trials.bar.changed(won.drop)} on {won.drop.n} hold-out samples; probability of being within "
            f"{trials.bar.said(trials.bar.allowed_drop)}: {percent(won.confidence)}{sure}"
            f"{trials.late.fewer}{where}"
        )
    if proofs:
        best = proofs[0]
        spare = untried(trials, proofs)
        others = f"; not tried: {', '.join(spare)}" if spare else ""
        why = f"{trials.bar.why_unproven(best)}{others}{trials.late.words}{trials.late.fewer}"
        return f"no candidate is proven on the hold-out samples; {best.candidate}: {why}"
    if trials.late.finalists:
        return f"no proof was finished{trials.late.words}"
    return _why_none_qualified(trials)


def _why_none_qualified(trials: Trials) -> str:
    """Return the reason why no candidate reached the hold-out samples."""
    verdicts = {t.verdict for t in trials.made}
    if not verdicts:
        return f"no candidate was tried: {trials.stopped}"
    failed = next((t for t in trials.made if t.verdict is Verdict.FAILED), None)
    if failed is not None and verdicts <= {Verdict.UNCHANGED, Verdict.FAILED}:
        return f"every candidate that changes the model failed; {failed.candidate.name}: {failed.reason}"
    if verdicts <= {Verdict.UNCHANGED}:
        left = next((t for t in trials.made if t.steps and t.steps[-1].skipped), None)
        why = "" if left is None else f"; {left.candidate.name}: {left.reason}"
        return f"no pass applies to this model{why}"
    unsure = [t for t in trials.made if t.verdict is Verdict.UNSURE]
    if unsure:
        return f"the busy host left the speed-up of {unsure[0].candidate.name} unsure: {unsure[0].reason}"
    if Verdict.OVER_BUDGET in verdicts:
        return "every candidate that is faster and not larger is over budget"
    if trials.bar.goal is Goal.SIZE:
        return "no candidate is at least 1 % smaller than the baseline and as fast"
    if Verdict.LARGER in verdicts:
        return "the faster candidates are larger than the baseline"
    return "no candidate is faster than the baseline"
