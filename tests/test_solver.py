"""The integer program finds what trying everything finds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt import solver
from onnxopt.solver import Edge, Group, LayerOptions, Mix, Problem, greedy_mix, solve

MODES = ("float", "int8", "rank")


def made(seed: int, groups: int, layers: int) -> Problem:
    """Return small tables of any kind: levels that save nothing, modes that are slower, layers that share groups."""
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(groups)]
    levels = {name: int(rng.integers(1, 4)) for name in names}
    some = {n: Group((0.0, *rng.uniform(0, 2, levels[n] - 1)), tuple(rng.uniform(0, 1, levels[n]))) for n in names}
    table = {}
    for i in range(layers):
        mine = tuple(rng.permutation(names)[: int(rng.integers(0, 3))])
        shape = tuple(levels[n] for n in mine)
        modes = MODES[: int(rng.integers(1, 4))]
        costs = {m: rng.uniform(0, 3, shape) for m in modes}
        if "rank" in costs and shape:
            costs["rank"] = np.where(np.arange(costs["rank"].size).reshape(shape) == 0, costs["rank"], np.inf)
        table[f"l{i}"] = LayerOptions(
            mine, costs, {m: 0.0 if m == "float" else float(rng.uniform(0, 1)) for m in modes}
        )
    edges = [Edge("" if not i else f"l{i - 1}", (f"l{i}",), float(rng.uniform(0, 1))) for i in range(layers)]
    edges.append(Edge("l0", tuple(f"l{i}" for i in range(1, layers)) or ("",), 0.3))
    return Problem(some, table, edges, frozenset({"int8", "rank"}), 0.5)


def everything(problem: Problem) -> list[Mix]:
    levels = [range(len(g.losses)) for g in problem.groups.values()]
    modes = [list(layer.costs) for layer in problem.layers.values()]
    return [
        Mix(dict(zip(problem.groups, some, strict=True)), dict(zip(problem.layers, chosen, strict=True)))
        for some in itertools.product(*levels)
        for chosen in itertools.product(*modes)
    ]


@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0, 2.5, 100.0]))
def test_the_optimum_is_that_of_trying_everything(seed: int, groups: int, layers: int, limit: float) -> None:
    problem = made(seed, groups, layers)
    allowed = [mix for mix in everything(problem) if problem.loss(mix) <= limit]
    best = min(problem.cost(mix) for mix in allowed)
    found = solve(problem, limit)
    assert problem.loss(found) <= limit * (1 + 1e-6)
    assert problem.cost(found) == pytest.approx(best, rel=1e-4, abs=1e-4)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.5]))
def test_steps_by_gain_stay_inside_the_limit(seed: int, limit: float) -> None:
    problem = made(seed, 3, 4)
    found = greedy_mix(problem, limit)
    assert problem.loss(found) <= limit
    assert problem.cost(found) <= problem.cost(problem.whole())


def test_without_the_solver_steps_by_gain_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = made(3, 3, 4)
    monkeypatch.setattr(solver, "_solved", lambda *_: (None, False))
    assert solve(problem, 1.0) == greedy_mix(problem, 1.0)


def test_one_layer_in_float_is_not_worth_two_conversions() -> None:
    one = {"float": np.array(1.0), "int8": np.array(1.1)}
    rest = {"float": np.array(9.0), "int8": np.array(1.0)}
    no_loss = {"float": 0.0, "int8": 0.0}
    layers = {
        "a": LayerOptions((), rest, no_loss),
        "b": LayerOptions((), one, no_loss),
        "c": LayerOptions((), rest, no_loss),
    }
    edges = [Edge("", ("a",), 0.2), Edge("a", ("b",), 0.2), Edge("b", ("c",), 0.2), Edge("c", ("",), 0.2)]
    assert solve(Problem({}, layers, edges, frozenset({"int8"})), 0.0).modes["b"] == "int8"
    free = [Edge(w.writer, w.readers, 0.0) for w in edges]
    assert solve(Problem({}, layers, free, frozenset({"int8"})), 0.0).modes["b"] == "float"


def test_where_nothing_fits_the_least_harm_is_taken() -> None:
    layers = {"a": LayerOptions((), {"float": np.array(1.0)}, {"float": 0.5})}
    assert solve(Problem({}, layers), 0.1) == Mix({}, {"a": "float"})
