"""Stages of a search: candidates that follow from earlier measurements."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.options.search import Goal
from onnxopt.passes.fuse_attention import attends
from onnxopt.search.acceptance import SAME
from onnxopt.search.candidates import (
    ATTENTION,
    BLOCKS,
    PRUNED,
    between,
    placed,
    pruned,
    reduces,
    shallower,
    static_pass,
    with_fused_attention,
)
from onnxopt.search.journal.notes import candidate_data, maybe_candidate
from onnxopt.search.learning import distilled, is_deep
from onnxopt.search.mix.bits import bit_tables, has_matrices
from onnxopt.search.mix.choice import Outcome, Propose, try_forms, try_mixes
from onnxopt.search.mix.cost_tables import CostTables, tables_of
from onnxopt.search.mix.layer_times import LayerTimes
from onnxopt.search.mix.mixer import BEYOND, Mixer, quantizer_of
from onnxopt.search.screen import Screen
from onnxopt.search.timed_batches import called_at
from onnxopt.search.trial import Candidate, Trial, Verdict
from onnxopt.search.trials import Trials
from onnxopt.search.workers.runner import LOST

_DISTILLED_MIXES = 2

_ALIKE_SHARE = 0.1
"""Share of the time for candidates that further calibrations may take, if one is within or far over budget."""

_CLOCK_S = 4.0
"""Seconds to time the forms of all matrices."""

_BITS_S, _BITS_SHARE = 60.0, 0.05
"""Seconds, and share of the time for candidates, that the losses of matrices in one form may take."""

_FAR = 5
"""Ratio of drop to budget above which another calibration hardly helps, and layers in float may."""


def try_one(trials: Trials, candidate: Candidate, screen: Screen) -> Trial:
    """Try a candidate; skip a static one, which differs only in its ranges, if another is much closer."""
    screened = static_pass(candidate) is not None and trials.settings.cluster is None
    return trials.run(candidate, screen if screened else None)


def left_for_later(trials: Trials, alike: int) -> bool:
    """Return whether candidates that differ little from tried ones are postponed to the end.

    They are postponed if a static one is clearly within budget or far over it, and the others would take much of the
    remaining time.
    """
    statics = [t for t in trials.made if static_pass(t.candidate) and t.drop is not None]
    settled = any(map(trials.bar.accurate, statics)) or all(_far_beyond(trials, t) for t in statics)
    return bool(statics) and settled and _longer_than(trials, alike, _ALIKE_SHARE)


def _far_beyond(trials: Trials, trial: Trial) -> bool:
    return trial.drop is not None and trial.drop.value > _FAR * trials.bar.allowed_drop


def _longer_than(trials: Trials, count: int, share: float) -> bool:
    """Return whether `count` more candidates take longer than a share of their remaining time.

    They are built, scored and timed for about as long as the slowest so far, and as the baseline.
    """
    built_s = max((sum(step.duration_s for step in t.steps) for t in trials.made), default=0.0)
    measured_s = trials.sample_s * len(trials.parts.search) + trials.settings.latency_s
    return count * (built_s + measured_s) > share * trials.deadline.candidates_left_s()


def place_layers(trials: Trials) -> None:
    """Keep those layers of the most accurate static candidate in float that are slower in INT8."""
    best = _best_static(trials)
    if best is not None and not trials.enough():
        trials.run(placed(best))


def fuse_attention(trials: Trials) -> None:
    """Put each attention of the best candidate into one node, which computes the same.

    The runtime's own node is tried where that of the standard gains little.
    """
    leader = trials.leader
    if leader is None or trials.settings.goal is not Goal.LATENCY or not attends(trials.model):
        return
    for form in ATTENTION:
        fused = with_fused_attention(leader.candidate, form)
        if fused is None or trials.enough():
            return
        trial = trials.run(fused)
        if trial.verdict is Verdict.WITHIN and trials.bar.rank(leader) >= SAME * trials.bar.rank(trial):
            return


def remove_channels(trials: Trials) -> None:
    """Prune more and more channels before the best candidate's passes, while it is likely within budget.

    Where a step is too much, half of it is tried.
    """
    base = trials.base()
    before = 1.0
    for macs in PRUNED:
        if trials.enough():
            return
        trial = _pruned_to(trials, base, macs)
        if trial.verdict in (Verdict.UNCHANGED, Verdict.SAME):
            return
        if not trials.bar.promising(trial):
            if not trials.enough():
                _pruned_to(trials, base, between(before, macs))
            return
        before = macs


def _pruned_to(trials: Trials, base: Candidate, macs: float) -> Trial:
    return trials.run(pruned(base, macs, trials.settings.protect))


def remove_blocks(trials: Trials) -> None:
    """Remove more and more residual blocks of a deep model before the best candidate's passes, as channels before."""
    if trials.enough() or not is_deep(trials):
        return
    base = trials.base()
    for share in BLOCKS:
        if trials.enough():
            return
        trial = trials.run(shallower(base, share))
        if trial.verdict is Verdict.UNCHANGED or not trials.bar.promising(trial):
            return


def mix_techniques(trials: Trials) -> None:
    """Choose techniques for all layers from tables of time and loss, and again after each measurement."""
    base = trials.base() if trials.leader is not None else _best_static(trials)
    quantizer = None if base is None else quantizer_of(base)
    settings = trials.settings

    def tables() -> CostTables:
        times = LayerTimes(cache_folder(), settings.runtime)
        return tables_of(
            trials.model,
            trials.context,
            trials.feeds,
            settings.runtime,
            goal=settings.goal,
            quantizer=quantizer,
            times=times,
            protect=settings.protect,
            losses=trials.losses,
        )

    mixer = Mixer(tables)
    if try_mixes(mixer, partial(_attempt, trials), partial(_taken, trials, "mix")) and settings.train:
        _distill_mixes(trials, mixer)


def choose_bits(trials: Trials) -> None:
    """Choose the form of each large matrix from tables of time and loss, and again after each measurement."""
    if trials.enough() or not has_matrices(trials.model):
        return
    settings, by_length = trials.settings, trials.batches.by_length

    def clock(models: Mapping[str, ir.Model]) -> list[dict[str, float]]:
        seconds = min(_CLOCK_S, settings.latency_s)
        whole_ms = {name: latency.p50_ms for name, latency in trials.latency(dict(models), seconds).items()}
        return called_at(by_length, whole_ms, models, settings.runtime, seconds)

    def tables() -> CostTables:
        return bit_tables(
            trials.model,
            trials.context,
            by_length,
            goal=settings.goal,
            times=LayerTimes(cache_folder(), settings.runtime),
            clock=clock,
            losses=trials.losses,
            seconds=min(_BITS_S, _BITS_SHARE * trials.deadline.candidates_left_s()),
        )

    # Bytes are as the tables have them; times of single matrices may not be.
    attempts = try_forms if settings.goal is Goal.LATENCY else try_mixes
    attempts(Mixer(tables), partial(_attempt, trials), partial(_taken, trials, "bits"))


def _attempt(trials: Trials, candidate: Candidate) -> Outcome | None:
    """Return the outcome of a trial, or of an earlier one with the same passes."""
    earlier = (trial for trial in trials.made if trial.candidate.passes == candidate.passes)
    trial, allowed = next(earlier, None) or trials.run(candidate), trials.bar.allowed_drop
    if trial.drop is None or not allowed > 0:
        return None
    return Outcome(trials.bar.promising(trial), max(trial.drop.value, 0.0) / allowed)


def _taken(trials: Trials, kind: str, name: str, propose: Propose) -> Candidate | None:
    return _chosen(trials, f"{kind} {name}", propose)


def _distill_mixes(trials: Trials, mixer: Mixer) -> None:
    """Try mixes that exceed the budget without training, followed by distillation."""
    factor, before = BEYOND, list[float]()
    for _ in range(_DISTILLED_MIXES):
        chosen = _chosen(trials, f"mix beyond {factor}", partial(mixer.beyond, factor, tuple(before)))
        if chosen is None or not reduces(chosen):
            return
        trial = distilled(trials, chosen)
        before.append(factor)
        factor *= BEYOND if trial is not None and trials.bar.accurate(trial) else 0.5


def _chosen(trials: Trials, name: str, choose: Callable[[], Candidate | None]) -> Candidate | None:
    """Return the chosen mix, or the recorded one of an earlier part of the search; None without mix or time."""

    def make() -> Mapping[str, Any] | None:
        try:
            made = choose()
        except (ModelError, NativeError) as error:
            if error.code == LOST:
                raise
            trials.observer.progress(f"no mix of techniques: {error}", 1, 1)
            return None
        return None if made is None else candidate_data(made)

    found = None if trials.enough() else trials.deadline.in_time(lambda: trials.recall(name, make, maybe_candidate))
    return None if trials.enough() else found


def _best_static(trials: Trials) -> Candidate | None:
    statics = [t for t in trials.made if static_pass(t.candidate) and t.drop is not None and not t.drop.broken]
    return min(statics, key=_placing_order).candidate if statics else None


def _placing_order(trial: Trial) -> tuple[bool, float]:
    """Order trials within budget by speed, then the others by drop."""
    assert trial.drop is not None
    if trial.verdict is Verdict.WITHIN and trial.latency is not None and trial.latency.speedup is not None:
        return False, -trial.latency.speedup.value
    return True, trial.drop.value
