"""The integer program: tables of time and loss in, one choice per layer and channel group out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.optimize
from scipy.sparse import lil_array

FLOAT = "float"
ALWAYS_FLOAT = ""
"""Stands for parts without a choice: inputs and outputs of the model, and layers without an integer kernel."""
_SECONDS = 20.0


@dataclass(frozen=True)
class Group:
    """Channels that go together.

    Attributes:
        losses: the losses by level; the first level is the whole group.
        costs: the costs outside of layers.
    """

    losses: tuple[float, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class LayerOptions:
    """One layer, which reads channels of at most one group and makes those of at most another.

    Attributes:
        groups: the groups that its cost depends on, two at most.
        costs: the costs by mode, shape: the levels of each of `groups`; infinite where the mode is unknown at a level.
        losses: the losses by mode.
    """

    groups: tuple[str, ...]
    costs: Mapping[str, np.ndarray]
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Edge:
    """One activation, converted once for all its readers where they differ from its writer in being integer."""

    writer: str
    readers: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class Mix:
    """A level per group and a mode per layer."""

    levels: Mapping[str, int]
    modes: Mapping[str, str]


@dataclass(frozen=True)
class Problem:
    """Tables whose costs and losses add up.

    Attributes:
        integer: modes that compute in INT8.
        fixed: cost that no choice changes.
    """

    groups: Mapping[str, Group]
    layers: Mapping[str, LayerOptions]
    edges: Sequence[Edge] = ()
    integer: frozenset[str] = frozenset()
    fixed: float = 0.0

    def whole(self, mode: str = FLOAT) -> Mix:
        """Return the mix that removes nothing, with every layer in `mode` that has it, and in float otherwise."""
        modes = {n: mode if mode in one.costs else FLOAT for n, one in self.layers.items()}
        return Mix(dict.fromkeys(self.groups, 0), modes)

    def without(self, modes: Collection[str]) -> "Problem":
        """Return the same without some modes."""
        layers = {}
        for name, layer in self.layers.items():
            costs = {mode: cost for mode, cost in layer.costs.items() if mode not in modes}
            layers[name] = replace(layer, costs=costs, losses={mode: layer.losses[mode] for mode in costs})
        return replace(self, layers=layers)

    def cost(self, mix: Mix) -> float:
        """Return the cost of a mix."""
        total = self.fixed + sum(g.costs[mix.levels[name]] for name, g in self.groups.items())
        for name, layer in self.layers.items():
            total += float(layer.costs[mix.modes[name]][tuple(mix.levels[g] for g in layer.groups)])
        for edge in self.edges:
            writer, readers = self._integer(mix, edge.writer), {self._integer(mix, r) for r in edge.readers}
            total += edge.cost * len(readers - {writer})
        return total

    def loss(self, mix: Mix) -> float:
        """Return the loss of a mix."""
        total = sum(g.losses[mix.levels[name]] for name, g in self.groups.items())
        return total + sum(layer.losses[mix.modes[name]] for name, layer in self.layers.items())

    def _integer(self, mix: Mix, name: str) -> bool:
        return mix.modes.get(name, FLOAT) in self.integer


def solve(problem: Problem, loss_limit: float) -> Mix:
    """Return the mix of least cost whose loss is at most `loss_limit`; of least loss where none is.

    An integer program, solved by HiGHS: a level per group, per layer a mode at the levels of its groups, and per
    activation whether it is converted. Where the solver finds nothing in time, by gain per loss.
    """
    if not problem.groups and not problem.layers:
        return problem.whole()
    found, is_optimal = _solved(problem, loss_limit)
    fits = found is not None and problem.loss(found) <= loss_limit * (1 + 1e-6)
    if found is not None and fits and is_optimal:
        return found
    fallback = greedy_mix(problem, loss_limit)
    if found is None or not fits:
        return fallback
    return min((found, fallback), key=problem.cost) if problem.loss(fallback) <= loss_limit else found


def greedy_mix(problem: Problem, loss_limit: float) -> Mix:
    """Return a mix reached by single steps, each of which saves most per loss, from float or from all layers alike."""
    modes = list(dict.fromkeys(m for layer in problem.layers.values() for m in layer.costs))
    starts = [start for start in map(problem.whole, [FLOAT, *modes]) if np.isfinite(problem.cost(start))]
    ends = [_descended(problem, start, loss_limit) for start in starts if problem.loss(start) <= loss_limit]
    return min(ends, key=problem.cost) if ends else min(starts, key=problem.loss)


def _descended(problem: Problem, mix: Mix, loss_limit: float) -> Mix:
    while True:
        cost, loss, best = problem.cost(mix), problem.loss(mix), None
        for tried in _steps(problem, mix):
            gain, price = cost - problem.cost(tried), problem.loss(tried) - loss
            if gain > 1e-12 and loss + price <= loss_limit:
                rate = gain / max(price, 1e-12)
                best = max(best or (rate, tried), (rate, tried), key=lambda pair: pair[0])
        if best is None:
            return mix
        mix = best[1]


def _steps(problem: Problem, mix: Mix) -> Iterator[Mix]:
    for name, group in problem.groups.items():
        for level in range(len(group.losses)):
            if level != mix.levels[name]:
                yield replace(mix, levels={**mix.levels, name: level})
    for name, layer in problem.layers.items():
        for mode in layer.costs:
            if mode != mix.modes[name]:
                yield replace(mix, modes={**mix.modes, name: mode})


@dataclass
class IntegerProgram:
    """Columns and rows of an integer program while they are collected: the least cost within a limit of the losses."""

    costs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    def column(self, cost: float, loss: float = 0.0, *, whole: bool = False) -> int:
        """Add a variable between 0 and 1, or a choice of 0 or 1, and return its number."""
        self.costs.append(cost)
        self.losses.append(loss)
        self.whole.append(whole)
        return len(self.costs) - 1

    def row(self, entries: Mapping[int, float], low: float, high: float = np.inf) -> None:
        """Bound the sum of some variables, each times its entry."""
        self.rows.append((dict(entries), low, high))

    def solved(
        self, loss_limit: float, *, gap: float = 1e-6, seconds: float = _SECONDS
    ) -> tuple[np.ndarray | None, bool]:
        """Return the values of the columns, None where none are found in time, and whether they are optimal.

        Args:
            loss_limit: upper limit of the sum of the losses.
            gap: relative distance from the optimum at which HiGHS stops.
            seconds: time limit.
        """
        losses, limit = np.asarray(self.losses), max(loss_limit, 1e-30)
        matrix = lil_array((len(self.rows) + 1, len(self.costs)))
        for i, (entries, _, _) in enumerate(self.rows):
            for column, value in entries.items():
                matrix[i, column] = value
        # In units of what may be lost: the solver's tolerances are absolute. What alone is over it is out.
        matrix[len(self.rows), :] = np.minimum(losses / limit, 2.0) if np.isfinite(limit) else np.zeros(len(losses))
        solved = scipy.optimize.milp(
            np.asarray(self.costs) / max(float(np.abs(self.costs).max(initial=0.0)), 1e-300),
            integrality=np.asarray(self.whole, float),
            bounds=scipy.optimize.Bounds(0, (losses <= limit).astype(float)),
            constraints=scipy.optimize.LinearConstraint(
                matrix.tocsr(), [low for _, low, _ in self.rows] + [-np.inf], [high for _, _, high in self.rows] + [1.0]
            ),
            options={"mip_rel_gap": gap, "time_limit": seconds},
        )
        return solved.x, solved.status == 0


def _solved(problem: Problem, loss_limit: float) -> tuple[Mix | None, bool]:
    program = IntegerProgram()
    levels = {
        name: [program.column(c, loss, whole=True) for c, loss in zip(g.costs, g.losses, strict=True)]
        for name, g in problem.groups.items()
    }
    for columns in levels.values():
        program.row(dict.fromkeys(columns, 1.0), 1.0, 1.0)
    modes = {name: _layer_columns(program, layer, levels) for name, layer in problem.layers.items()}
    for edge in problem.edges:
        _edge_columns(program, edge, modes, problem.integer)
    found, is_optimal = program.solved(loss_limit)
    if found is None:
        return None, False
    chosen = {name: int(np.argmax(found[columns])) for name, columns in levels.items()}
    mix = Mix(chosen, {name: max(some, key=lambda mode: found[some[mode]]) for name, some in modes.items()})
    return mix, is_optimal


def _layer_columns(program: IntegerProgram, layer: LayerOptions, levels: Mapping[str, list[int]]) -> dict[str, int]:
    """Add one column per mode, and one per mode and levels, which is 1 where all of these are."""
    modes = {mode: program.column(0.0, layer.losses[mode], whole=True) for mode in layer.costs}
    both = {
        (mode, place): program.column(float(cost))
        for mode, costs in layer.costs.items()
        for place, cost in np.ndenumerate(costs)
        if np.isfinite(cost)
    }
    program.row(dict.fromkeys(modes.values(), 1.0), 1.0, 1.0)
    for mode, column in modes.items():
        program.row({**{c: 1.0 for (m, _), c in both.items() if m == mode}, column: -1.0}, 0.0, 0.0)
    for axis, group in enumerate(layer.groups):
        for level, column in enumerate(levels[group]):
            program.row({**{c: 1.0 for (_, p), c in both.items() if p[axis] == level}, column: -1.0}, 0.0, 0.0)
    return modes


def _edge_columns(
    program: IntegerProgram, edge: Edge, modes: Mapping[str, Mapping[str, int]], integer: frozenset[str]
) -> None:
    """Add one column per direction of conversion, 1 where any reader needs it."""

    def share(name: str, sign: float) -> dict[int, float]:
        return {column: sign for mode, column in modes.get(name, {}).items() if mode in integer}

    there, back = program.column(edge.cost), program.column(edge.cost)
    for reader in {*edge.readers} - {edge.writer}:
        # there >= reader - writer, back >= writer - reader
        program.row({**share(reader, -1.0), **share(edge.writer, 1.0), there: 1.0}, 0.0)
        program.row({**share(reader, 1.0), **share(edge.writer, -1.0), back: 1.0}, 0.0)
