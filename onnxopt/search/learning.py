"""Candidates that learn from the baseline: what is removed before, how long they learn, and which comes next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxopt import model_file
from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.blocks.find import blocks_of
from onnxopt.graph.edit import name_nodes
from onnxopt.options.search import Goal
from onnxopt.search.acceptance import SAME
from onnxopt.search.candidates import BLOCKS, PRUNED, between, pruned, recovered, shallower
from onnxopt.search.journal.notes import numbers
from onnxopt.search.limits.training_pace import affordable_steps, precision_of, step_times
from onnxopt.search.removal import REACH, ROUNDING, in_reach, ladder, removed_by, without_blocks_by_size
from onnxopt.search.trial import Candidate, Trial, Verdict
from onnxopt.search.trials import Trials
from onnxopt.search.workers.runner import LOST

MOST_TRAINED = 4
"""Number of trainings; each takes a share of the time left, so that later ones are too short."""

_FEWEST_STEPS = 50
"""A shorter distillation hardly learns."""

_DEEPER = (*BLOCKS, 0.68, 0.6, 0.52, 0.44)
"""Remaining shares of the residual blocks that are tried before training."""


@dataclass(frozen=True)
class Target:
    """A candidate that may learn: its trial without training, and its latency or size relative to the baseline."""

    trial: Trial
    cost: float

    @property
    def removed(self) -> str:
        """What was removed, as a key of `REACH`."""
        return removed_by(self.trial)

    @property
    def drop(self) -> float:
        """The drop without training."""
        return 0.0 if self.trial.drop is None else max(self.trial.drop.value, 0.0)


def reduce_and_train(trials: Trials) -> None:
    """Remove ever more without training, then train the fastest candidate that training may bring within budget.

    A measurement without training takes seconds, a training minutes: so one training is given what several steps of
    removal would otherwise share. Its result says how much of a drop training leaves here, and which candidate is next.
    """
    base = trials.base()
    deep = is_deep(trials)
    blocks = ladder(trials, lambda share: shallower(base, share), _DEEPER if deep else ())
    sized = without_blocks_by_size(trials, base) if deep else []
    channels = _narrower(trials, base)
    both = _both(trials, blocks) if channels and in_reach(trials, channels[0]) else []
    _train(trials, [trial for trial in (*blocks.values(), *sized, *channels, *both) if not trials.bar.accurate(trial)])


def _narrower(trials: Trials, base: Candidate) -> list[Trial]:
    """Return the trials of steps of channels, the mildest first, and of half of the first step that is too much."""

    def make(share: float) -> Candidate:
        return pruned(base, share, trials.settings.protect)

    steps = ladder(trials, make, PRUNED)
    before = 1.0
    for share, trial in steps.items():
        if not trials.bar.promising(trial):
            return [*steps.values(), *ladder(trials, make, (between(before, share),)).values()]
        before = share
    return [*steps.values()]


def _both(trials: Trials, blocks: Mapping[float, Trial]) -> list[Trial]:
    """Return one step of channels beside most of the blocks that may be removed.

    Blocks save time at any width, channels in whole registers.
    """
    most = next((one for one in reversed([*blocks.values()]) if in_reach(trials, one, 0.5)), None)
    if most is None:
        return []
    steps = ladder(trials, lambda share: pruned(most.candidate, share, trials.settings.protect), PRUNED[:1])
    return [*steps.values()]


def _train(trials: Trials, made: Sequence[Trial]) -> None:
    """Train the fastest candidate that training may bring within budget, then another by what that one shows."""
    targets = [Target(trial, _cost(trials, trial)) for trial in made]
    left = {removed: 1 / reach for removed, reach in REACH.items()}
    best = _surest(trials)
    for number in range(MOST_TRAINED):
        chosen = _next(
            [one for one in targets if SAME * one.cost < best], trials.bar.allowed_drop, left, first=not number
        )
        if chosen is None or trials.enough():
            return
        targets.remove(chosen)
        trial = distilled(trials, chosen.trial.candidate)
        if trial is None or trial.drop is None:
            return
        shown, kind = trial.drop.value / chosen.drop if chosen.drop > 0 else 0.0, chosen.removed
        best = min(best, _surest(trials))
        left[kind] = max(shown, 0.5 / REACH[kind] if trials.bar.promising(trial) else left[kind])


def _surest(trials: Trials) -> float:
    """Return the rank of the best trial that the search samples alone show within budget with a proof's confidence.

    A faster one within budget by luck, the best of many, often fails on other samples: training makes it sure.
    """
    sure = [one for one in trials.made if one.verdict is Verdict.WITHIN and trials.bar.accurate(one)]
    return min(map(trials.bar.rank, sure), default=1.0)


def _next(targets: Sequence[Target], allowed: float, left: Mapping[str, float], *, first: bool) -> Target | None:
    """Return the fastest target whose drop is allowed when training leaves the share `left` of it.

    Where there is none, the one with the smallest drop is the first to learn: it shows the share.
    """
    hopeful = [one for one in targets if one.drop * left[one.removed] <= allowed * ROUNDING]
    if not hopeful and first:
        return min(targets, key=lambda one: one.drop, default=None)
    return min(hopeful, key=lambda one: one.cost, default=None)


def _cost(trials: Trials, trial: Trial) -> float:
    """Return the latency or the size of a candidate relative to the baseline; 1 where it cannot be measured.

    The trial of one far over budget ends before either is known.
    """
    if trial.latency is not None and trial.latency.speedup is not None:
        return trials.bar.rank(trial)
    name = trial.candidate.name

    def measured() -> list[float]:
        try:
            model = trials.build(trial.candidate)
            if trials.settings.goal is Goal.SIZE:
                return [model_file.size_bytes(model) / trials.bar.baseline_bytes]
            found = trials.latency({"baseline": trials.model, name: model}, trials.settings.latency_s)
        except (ModelError, NativeError) as error:
            if error.code == LOST:
                raise
            return [1.0]
        return [found[name].p50_ms / found["baseline"].p50_ms]

    if trials.enough():
        return 1.0
    costs = trials.deadline.in_time(lambda: trials.recall(f"cost of {name}", measured, numbers))
    return costs[0] if costs else 1.0


def is_deep(trials: Trials) -> bool:
    """Return whether the smallest share of the removable blocks is at least one block."""
    named = trials.model.clone()
    name_nodes(named)
    try:
        blocks, _ = blocks_of(named)
    except (ModelError, NativeError):
        return False
    return round((1 - BLOCKS[0]) * len(blocks)) >= 1


def distilled(trials: Trials, candidate: Candidate) -> Trial | None:
    """Return a candidate with distillation; None if the time was over before, or allows too few steps."""
    times = trials.deadline.in_time(lambda: step_times(trials))
    if times is None:
        return None
    # Recorded, because the time differs in a resumed search.
    (most,) = trials.recall(f"steps after {candidate.name}", lambda: [affordable_steps(trials, times)], numbers)
    if most < _FEWEST_STEPS:
        return None
    longer = recovered(candidate, len(trials.parts.calibration), int(most), precision_of(times))
    trial = trials.deadline.in_time(lambda: trials.run(longer))
    trials.enough()  # the reason is recorded, also if no candidate would have followed
    return trial
