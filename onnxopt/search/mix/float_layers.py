"""Layers that stay in float where a whole model in INT8 is over budget: as little work as the budget needs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from math import ceil, inf, isfinite

from onnxopt.graph.layers import anatomy_of
from onnxopt.graph.pointwise.functions import with_functions
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.search.bets import sizes_in
from onnxopt.search.candidates import QUANTIZERS, Quantizer, keep_in_float
from onnxopt.search.journal.notes import named_numbers
from onnxopt.search.losses import losses_of
from onnxopt.search.trial import Candidate, Trial, Verdict
from onnxopt.search.trials import Trials

ROUNDS = 6
"""Most candidates with layers in float."""
_SHARE = 0.5
"""Drop to aim at, as a share of the budget: a proof needs room."""
_RANKING = 0.3
"""Share of the remaining time for candidates that the measurement of losses may take."""
_PARTS = 4
"""Parts in which the losses of layers are measured, with a new prediction of the time before each."""
_FINE = 16
"""The bisection ends at a difference of one layer in so many."""


class FloatCounts:
    """The number of layers of a ranking to keep in float, predicted from losses and then bisected.

    The drop of a candidate is taken as proportional to the sum of the losses of its INT8 layers.

    Args:
        losses: loss of each layer alone in INT8, in the order in which layers are kept in float.
        over: drop of the candidate without any, as a multiple of the budget.
    """

    def __init__(self, losses: Sequence[float], over: float) -> None:
        self._rest = [sum(losses) - kept for kept in accumulate(losses, initial=0.0)]
        self._failed, self._over = 0, over
        self._good: int | None = None

    def next(self) -> int | None:
        """Return the next number to try; None at the end."""
        layers = len(self._rest) - 1
        if self._good is not None:
            close = self._good - self._failed <= max(layers // _FINE, 1)
            return None if close else (self._good + self._failed) // 2
        wanted = self._rest[self._failed] * _SHARE / max(self._over, 1.0)
        most = layers - 1
        found = next((k for k in range(self._failed + 1, most + 1) if self._rest[k] <= wanted), most)
        return found if found > self._failed else None

    def learn(self, count: int, over: float, *, good: bool) -> None:
        """Note that `count` layers in float are enough, or the drop with them as a multiple of the budget."""
        if good:
            self._good = count
        else:
            self._failed, self._over = count, over


def keep_harmful_layers(trials: Trials) -> None:
    """Keep layers of the most accurate static candidate in float, and of the most accurate dynamic one.

    Neither is varied while one of its kind is clearly within budget, or if it is no better than the best candidate. The
    one of the smaller drop comes first: it needs fewer layers in float.
    """
    found = [(best, kind) for kind in QUANTIZERS if (best := _best_near_budget(trials, kind)) is not None]
    for best, kind in sorted(found, key=lambda pair: _over(trials, pair[0])):
        if not trials.enough() and _may_lead(trials, best):
            _keep_layers(trials, best, kind)


def _keep_layers(trials: Trials, best: Trial, kind: type[Quantizer]) -> None:
    ranked = _ranked(trials, best, kind)
    counts = FloatCounts(list(ranked.values()), _over(trials, best))
    for _ in range(ROUNDS):
        count = counts.next()
        if count is None or trials.enough():
            return
        trial = trials.run(keep_in_float(best.candidate, tuple(ranked)[:count]))
        # Few samples leave a small drop unsure as well, and more layers in float would only be slower.
        good = trials.bar.accurate(trial) or _over(trials, trial) <= _SHARE
        if not good and trial.verdict is Verdict.SLOWER:
            return  # more layers in float would be slower yet
        counts.learn(count, _over(trials, trial), good=good)


def _best_near_budget(trials: Trials, kind: type[Quantizer]) -> Trial | None:
    """Return the candidate of a kind with the smallest drop, without layers in float by choice.

    None if one is clearly within budget, if none is worth it, or if layers of it were kept in float before.
    """
    worth_it = (Verdict.OVER_BUDGET, Verdict.WITHIN)  # the others are too slow or too large
    made = [t for t in trials.made if _pass_of(t.candidate, kind) is not None]
    tried = [t for t in made if t.drop is not None and t.verdict in worth_it]
    if any(trials.bar.accurate(t) for t in tried):
        return None
    whole = [t for t in tried if t.candidate == _without_choice(t.candidate)]
    best = min(whole, key=lambda t: t.drop.value if t.drop is not None else inf, default=None)
    varied = {_without_choice(t.candidate).passes for t in made if t.candidate != _without_choice(t.candidate)}
    return None if best is None or best.candidate.passes in varied else best


def _pass_of(candidate: Candidate, kind: type[Quantizer]) -> Quantizer | None:
    return next((p for p in candidate.passes if isinstance(p, kind)), None)


def _without_choice(candidate: Candidate) -> Candidate:
    """Return a candidate with all its layers in INT8."""
    passes = tuple(replace(p, exclude=()) if isinstance(p, QUANTIZERS) else p for p in candidate.passes)
    return candidate if passes == candidate.passes else replace(candidate, passes=passes)


def _may_lead(trials: Trials, best: Trial) -> bool:
    """Return whether a candidate is better at the goal than the best one within budget, or was not timed."""
    if trials.leader is None or best.latency is None or best.latency.speedup is None:
        return True
    return best.candidate == trials.leader.candidate or trials.bar.rank(best) < trials.bar.rank(trials.leader)


def _over(trials: Trials, trial: Trial) -> float:
    """Return the drop of a trial as a multiple of the budget."""
    allowed = trials.bar.allowed_drop
    if trial.drop is None or trial.drop.broken or not allowed > 0:
        return inf
    return max(trial.drop.value, 0.0) / allowed


def _ranked(trials: Trials, best: Trial, kind: type[Quantizer]) -> Mapping[str, float]:
    """Return the losses of INT8 layers, in the order of loss per multiply-accumulate; empty without time for them."""
    spec, base = _pass_of(best.candidate, kind), best.candidate.passes[:-1]
    edits = best.steps[-1].edits
    quantized = tuple(edit.target for edit in edits)
    weighted = tuple(edit.target for edit in edits if edit.action.split()[0] in WEIGHTED)
    if spec is None or len(weighted) < 2:
        return {}

    def rank() -> dict[str, float]:
        model = trials.preparation.run(base).model

        def measured(sets: Sequence[Sequence[str]]) -> list[float]:
            # With the functions behind them, which stay in float with a layer.
            whole = [with_functions(model, some, WEIGHTED) for some in sets]
            return losses_of(spec, base, whole, quantized, trials.losses)

        seconds = _RANKING * trials.deadline.candidates_left_s()
        return by_loss_per_work(losses_in_time(weighted, measured, seconds), _macs(trials, best.candidate))

    note = f"losses of layers: {best.candidate.name}"
    return trials.deadline.in_time(partial(trials.recall, note, rank, named_numbers)) or {}


def losses_in_time(
    layers: Sequence[str],
    measured: Callable[[Sequence[Sequence[str]]], Sequence[float]],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Return the loss of each layer; where time is short, neighbours are measured together and share their loss.

    Args:
        layers: names of the layers, in graph order.
        measured: returns the losses of several sets of layers.
        seconds: time for all of them, without the first one, which also prepares shared data. The time of the rest is
            predicted again after each part of them.
        clock: returns seconds.
    """
    found = dict(zip(layers[:1], measured([[name] for name in layers[:1]]), strict=True))
    rest, begun, done, part = layers[1:], clock(), 0, 1
    while rest:
        spent_s = clock() - begun
        left_s, each_s = seconds - spent_s, spent_s / max(done, 1)
        size = max(ceil(len(rest) * each_s / left_s), 1) if left_s > 0 else len(rest)
        sets = [rest[i : i + size] for i in range(0, len(rest), size)][:part]
        for some, loss in zip(sets, measured(sets), strict=True):
            found |= dict.fromkeys(some, loss / len(some))
        rest, done = rest[sum(map(len, sets)) :], done + len(sets)
        part = max(len(rest) // (_PARTS * size), 1)
    return found


def by_loss_per_work(losses: Mapping[str, float], macs: Mapping[str, int]) -> dict[str, float]:
    """Return layers with the most loss per multiply-accumulate first; by loss alone if some work is unknown.

    A layer that cannot be quantized alone comes first, with the largest loss of the others.
    """
    largest = max(filter(isfinite, losses.values()), default=1.0)
    known = all(macs.get(name) for name in losses)

    def order(name: str) -> float:
        return -losses[name] / (macs[name] if known else 1)

    return {name: min(losses[name], largest) for name in sorted(losses, key=order)}


def _macs(trials: Trials, candidate: Candidate) -> dict[str, int]:
    """Return the multiply-accumulates of the layers that a candidate quantizes."""
    model = trials.preparation.run(candidate.passes[:-1]).model
    return {layer.name: layer.macs or 0 for layer in anatomy_of(model, sizes_in(model, trials.feeds)).layers}
