"""Mixes of techniques as candidates, chosen from tables and adapted to the measurement of the last mix."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Pass
from onnxopt.search.candidates import Quantizer
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.forms import low_rank_at
from onnxopt.search.trial import Candidate
from onnxopt.solver import Mix, Problem, solve

ROUNDS = 3
BEYOND = 3.0
"""Factor on the allowed loss of a mix before training, which recovered two thirds of the loss or more."""
_FIRST = 0.01
"""First allowed loss, as error over variance of the outputs, if no candidate within budget is known."""
_CLEARLY = 1.25
"""Ratio of losses above which the larger one is larger: those of single layers add up only about."""
_LEAST, _MOST = 1.25, 4.0
"""Factor between the allowed losses of two rounds."""


def quantizer_of(candidate: Candidate) -> Quantizer | None:
    """Return the quantization of all layers in `candidate`; None without one."""
    found = next((p for p in candidate.passes if isinstance(p, QuantizeStatic | QuantizeDynamic)), None)
    if isinstance(found, QuantizeStatic):
        return replace(found, exclude=(), placement="all", min_sqnr_db=0)
    return None if found is None else replace(found, exclude=())


def candidate_of(tables: CostTables, mix: Mix, number: int) -> Candidate:
    """Return the candidate of a mix, with its predicted share of the baseline's time or bytes."""
    if tables.forms:
        predicted = tables.problem.cost(mix) / tables.original
        return Candidate(f"bits-{number}", (*tables.base, *_assigned(tables, mix)), predicted)
    passes: list[Pass] = [Simplify(fuse=False)]
    ratios = tuple(f"{group}:{tables.shares[group][level]}" for group, level in mix.levels.items() if level)
    if ratios:
        passes.append(PruneChannels(ratio=0, scope="local", normalize="share", protect=(), ratios=ratios))
    for mode, ratio in tables.ranks.items():
        reduced = {layer for layer, chosen in mix.modes.items() if chosen == mode}
        if reduced:
            passes.append(low_rank_at(ratio, tuple(name for name in tables.weighted if name not in reduced)))
    kept, integer = _in_float(tables.problem, mix)
    label = "float"
    if tables.quantizer is not None and integer:
        passes += [Simplify(), replace(tables.quantizer, exclude=kept)]
        label = _label(tables.quantizer)
    predicted = tables.problem.cost(mix) / tables.original
    return Candidate(f"mixed-{number}+{label}", tuple(passes), predicted)


def _assigned(tables: CostTables, mix: Mix) -> list[Pass]:
    """Return the passes that give each matrix its form, by names that each of them leaves alone."""
    passes, done = list[Pass](), set[str]()
    for mode, spec in tables.forms.items():
        takes = [name for name, layer in tables.problem.layers.items() if mode in layer.costs]
        chosen = {name for name in takes if mix.modes[name] == mode}
        if chosen:
            # Layers of earlier passes are other nodes by now, and may have other names.
            passes.append(replace(spec, exclude=tuple(name for name in takes if name not in chosen | done)))
        done |= chosen
    return passes


def _label(quantizer: Quantizer) -> str:
    """Return the name of a quantizer, as in the names of candidates without a mix."""
    kind = f"static-{quantizer.method}" if isinstance(quantizer, QuantizeStatic) else "dynamic"
    return kind if quantizer.per_channel else f"{kind}-tensor"


def _in_float(problem: Problem, mix: Mix) -> tuple[tuple[str, ...], bool]:
    """Return the layers in float that could be in INT8, and whether any layer is in INT8."""
    integer = {name for name, mode in mix.modes.items() if mode in problem.integer}
    could = (name for name, layer in problem.layers.items() if not problem.integer.isdisjoint(layer.costs))
    return tuple(name for name in could if name not in integer), bool(integer)


class Mixer:
    """Chooses mixes; the allowed loss of each follows from the measured losses before it.

    Args:
        make: builds the tables at first use.
        first: the allowed loss of the first mix.
    """

    def __init__(self, make: Callable[[], CostTables], first: float = _FIRST) -> None:
        self._make = make
        self._told = list[tuple[bool, float]]()
        self._mixes = list[Mix]()
        self._latest: Mix | None = None
        self._allowed, self._inside, self._outside = first, 0.0, math.inf

    def next(self) -> Candidate | None:
        """Return the best mix for the present allowed loss; None if it was returned before."""
        return self._choose() if self._caught_up() else None

    @property
    def latest(self) -> Mix:
        """The mix that was returned last."""
        assert self._latest is not None
        return self._latest

    def uniform(self, number: int) -> Candidate | None:
        """Return the `number`-th fastest form for all matrices, in the graph of the mixes; None without one.

        Its time is that of the whole model as called. None is returned before a mix is good. Forms are left out that
        by the tables lose clearly more than a mix over budget, that are no faster than float, or that a mix was.
        """
        if not any(good for good, _ in self._told) or not self._caught_up():
            return None
        found = self._uniform()
        if number > len(found):
            return None
        self._latest = found[number - 1]
        return replace(candidate_of(self._tables, self._latest, number), name=f"uniform-bits-{number}")

    def _uniform(self) -> list[Mix]:
        problem, found = self._tables.problem, list[Mix]()
        good = [mix for mix, (is_good, _) in zip(self._mixes, self._told, strict=False) if is_good]
        wholes = [
            mix for mode in self._tables.forms if problem.loss(mix := problem.whole(mode)) < _CLEARLY * self._outside
        ]
        for mix in sorted(wholes, key=problem.cost):
            if mix in good or problem.cost(mix) >= problem.cost(problem.whole()):
                break
            if mix not in self._mixes:
                found.append(mix)
        return found

    def learn(self, *, good: bool, share: float) -> None:
        """Set the next allowed loss from a measurement, because tables hold only losses of single layers.

        Args:
            good: whether the last mix is within budget.
            share: its share of the budget, from 0.
        """
        self._told.append((good, share))
        if len(self._mixes) == len(self._told):
            self._adapt(good, share)

    def beyond(self, factor: float, before: Sequence[float] = ()) -> Candidate | None:
        """Return the best mix for `factor` times the present allowed loss, for recovery by training.

        The result is None if it was returned before. The allowed loss does not change.

        Args:
            factor: a factor above 0.
            before: earlier factors since the last measurement, also of an earlier part of the search.
        """
        if not self._caught_up():
            return None
        for earlier in before[len(self._mixes) - len(self._told) :]:
            if self._widened(earlier) is None:
                return None
        return self._widened(factor)

    def _widened(self, factor: float) -> Candidate | None:
        allowed, self._allowed = self._allowed, self._allowed * factor
        try:
            return self._choose()
        finally:
            self._allowed = allowed

    def _caught_up(self) -> bool:
        """Repeat the choices of an earlier part of the search, to continue from there."""
        while len(self._mixes) < len(self._told):
            if self._choose() is None:
                return False
            self._adapt(*self._told[len(self._mixes) - 1])
        return True

    @cached_property
    def _tables(self) -> CostTables:
        return self._make()

    def _choose(self) -> Candidate | None:
        problem, mix = self._tables.problem, self._solved()
        if mix in self._mixes and 0 < self._inside < self._outside < math.inf:
            self._allowed = math.sqrt(self._inside * self._outside)
            mix = self._solved()
        if mix in self._mixes or mix == problem.whole():
            return None
        self._mixes.append(mix)
        self._latest = mix
        return candidate_of(self._tables, mix, len(self._mixes))

    def _solved(self) -> Mix:
        problem = self._tables.problem
        return min((solve(problem.without(other), self._allowed) for other in self._sets()), key=problem.cost)

    def _adapt(self, good: bool, share: float) -> None:
        lost = self._tables.problem.loss(self._mixes[-1])
        if good:
            self._inside = max(self._inside, lost)
        else:
            self._outside = min(self._outside, lost)
        # Sampling noise hides the effect of a small change.
        factor = 1 / min(max(share, 1 / _MOST), _MOST)
        wanted = lost * (max(factor, _LEAST) if good else min(factor, 1 / _LEAST))
        if self._inside > 0 and not self._inside < wanted < self._outside:
            wanted = math.sqrt(self._inside * self._outside) if math.isfinite(self._outside) else self._inside * _LEAST
        self._allowed = wanted

    def _sets(self) -> list[frozenset[str]]:
        """Return sets of modes to leave out, because a pass has one share of the rank for all its layers."""
        modes = frozenset(self._tables.ranks)
        return [modes - {mode} for mode in modes] or [frozenset()]
