"""Mixes of techniques as candidates: chosen from tables, and adapted to the measurement of the last one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Pass
from onnxopt.search.mix.cost_tables import Tables
from onnxopt.search.mix.forms import Quantizer, chains
from onnxopt.search.trial import Candidate
from onnxopt.solver import Mix, Problem, solve

ROUNDS = 3
BEYOND = 3.0
"""Times the loss that is allowed that a mix may have before training, which won back two thirds of it or more."""
_FIRST = 0.01
"""Error of the outputs, over their variance, that is tried first where nothing inside the budget is known."""
_LEAST, _MOST = 1.25, 4.0
"""By how much the allowed loss changes from one round to the next."""


def quantizer_of(candidate: Candidate) -> Quantizer | None:
    """Return the quantization in `candidate` that all its layers get; None without one."""
    found = next((p for p in candidate.passes if isinstance(p, QuantizeStatic | QuantizeDynamic)), None)
    if isinstance(found, QuantizeStatic):
        return replace(found, exclude=(), placement="all", min_sqnr_db=0)
    return None if found is None else replace(found, exclude=())


def candidate_of(tables: Tables, mix: Mix, number: int) -> Candidate:
    """Return the passes that carry out a mix, with the share of the original's time or bytes that is predicted."""
    passes: list[Pass] = [Simplify(fuse=False)]
    ratios = tuple(f"{group}:{tables.shares[group][level]}" for group, level in mix.levels.items() if level)
    if ratios:
        passes.append(PruneChannels(ratio=0, scope="local", normalize="share", protect=(), ratios=ratios))
    for mode, ratio in tables.ranks.items():
        reduced = {layer for layer, chosen in mix.modes.items() if chosen == mode}
        if reduced:
            passes.append(chains(ratio, tuple(name for name in tables.weighted if name not in reduced)))
    kept, integer = _in_float(tables.problem, mix)
    label = "float"
    if tables.quantizer is not None and integer:
        passes += [Simplify(), replace(tables.quantizer, exclude=kept)]
        label = _label(tables.quantizer)
    predicted = tables.problem.cost(mix) / tables.original
    return Candidate(f"mixed-{number}+{label}", tuple(passes), predicted)


def _label(quantizer: Quantizer) -> str:
    """Return the name of a quantizer, as in the names of the candidates without a mix."""
    kind = f"static-{quantizer.method}" if isinstance(quantizer, QuantizeStatic) else "dynamic"
    return kind if quantizer.per_channel else f"{kind}-tensor"


def _in_float(problem: Problem, mix: Mix) -> tuple[tuple[str, ...], bool]:
    """Return the layers left in float that could be in INT8, and whether any is in INT8."""
    integer = {name for name, mode in mix.modes.items() if mode in problem.integer}
    could = (name for name, layer in problem.layers.items() if not problem.integer.isdisjoint(layer.costs))
    return tuple(name for name in could if name not in integer), bool(integer)


class Mixer:
    """Chooses mixes, each with a loss allowed that follows from what the ones before lost.

    Args:
        make: makes the tables, when they are needed first.
    """

    def __init__(self, make: Callable[[], Tables]) -> None:
        self._make = make
        self._told = list[tuple[bool, float]]()
        self._mixes = list[Mix]()
        self._allowed, self._inside, self._outside = _FIRST, 0.0, math.inf

    def next(self) -> Candidate | None:
        """Return the best mix for the loss that is allowed now; None where it is one that was returned before."""
        return self._choose() if self._caught_up() else None

    def learn(self, *, good: bool, share: float) -> None:
        """Set the loss to allow next: tables know layers alone, and what was measured knows them together.

        Args:
            good: whether the last mix is inside the budget.
            share: the budget that it used, from 0.
        """
        self._told.append((good, share))
        if len(self._mixes) == len(self._told):
            self._adapt(good, share)

    def beyond(self, factor: float, before: Sequence[float] = ()) -> Candidate | None:
        """Return the best mix for `factor` times the loss that is allowed now, for training to win back.

        None where it is one that was returned before. What is allowed stays as it is.

        Args:
            factor: above 0.
            before: what was asked for since the last loss that was told, here or in an earlier part of the search.
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
        """Choose again what an earlier part of the search chose, to go on from there."""
        while len(self._mixes) < len(self._told):
            if self._choose() is None:
                return False
            self._adapt(*self._told[len(self._mixes) - 1])
        return True

    @cached_property
    def _tables(self) -> Tables:
        return self._make()

    def _choose(self) -> Candidate | None:
        problem, mix = self._tables.problem, self._solved()
        if mix in self._mixes and 0 < self._inside < self._outside < math.inf:
            self._allowed = math.sqrt(self._inside * self._outside)
            mix = self._solved()
        if mix in self._mixes or mix == problem.whole():
            return None
        self._mixes.append(mix)
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
        # Sampling hides what a small change would do.
        factor = 1 / min(max(share, 1 / _MOST), _MOST)
        wanted = lost * (max(factor, _LEAST) if good else min(factor, 1 / _LEAST))
        if self._inside > 0 and not self._inside < wanted < self._outside:
            wanted = math.sqrt(self._inside * self._outside) if math.isfinite(self._outside) else self._inside * _LEAST
        self._allowed = wanted

    def _sets(self) -> list[frozenset[str]]:
        """Return the modes to leave out: a pass leaves one share of the rank to all layers it reduces."""
        modes = frozenset(self._tables.ranks)
        return [modes - {mode} for mode in modes] or [frozenset()]
