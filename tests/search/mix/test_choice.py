"""One form for all matrices is tried beside mixes, so that a wrong table of times ships nothing slower than that."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from onnxopt.catalog import format_passes
from onnxopt.options.search import Goal
from onnxopt.search import stages
from onnxopt.search.budget import Budget
from onnxopt.search.mix.bits import FORMS
from onnxopt.search.mix.choice import Outcome, try_forms, try_mixes
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.mixer import Mixer
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate
from onnxopt.solver import LayerOptions, Problem
from tests import builders
from tests.search.mix.test_bits import LAYERS, model

BITS, SAFE, FAST = "8 bits", "dynamic INT8", "dynamic INT8, one scale"
MS: Mapping[str, float] = {"float": 4.0, BITS: 3.0, SAFE: 2.0, FAST: 1.8}
LOSS: Mapping[str, float] = {"float": 0.0, BITS: 0.01, SAFE: 0.1, FAST: 0.2}
"""Of each layer; three layers in the safe form lose 0.3, in the fast one 0.6."""


def tables(*, wrong: float = 1.0) -> CostTables:
    """Return three layers in four forms; the time of the first one in 8 bits is `wrong` times its own."""
    layers = {
        name: LayerOptions((), {form: np.array(ms) for form, ms in MS.items()}, LOSS) for name in LAYERS
    }  # fmt: skip
    costs = {**layers[LAYERS[0]].costs, BITS: np.array(wrong * MS[BITS])}
    layers[LAYERS[0]] = replace(layers[LAYERS[0]], costs=costs)
    forms = {form: FORMS[form] for form in MS if form != "float"}
    return CostTables(Problem({}, layers), 12.0, {}, {}, (), None, forms)


def pipeline(candidate: Candidate | None) -> str:
    return "" if candidate is None else format_passes(candidate.passes)


def of_all(form: str) -> str:
    return f"simplify,{format_passes((FORMS[form],))}"


class World:
    """Measures every mix as slow and every form for all as fast as the tables have it."""

    def __init__(self, *over: str) -> None:
        self.over, self.ms = [of_all(form) for form in over], dict[str, float]()

    def attempt(self, candidate: Candidate) -> Outcome:
        found = pipeline(candidate)
        if found in self.over:
            return Outcome(good=False, share=1.5)
        whole = {of_all(form): 3 * ms for form, ms in MS.items() if form != "float"}
        self.ms[found] = whole.get(found, 50.0)
        return Outcome(good=True, share=0.9)

    @property
    def choice(self) -> str:
        return min(self.ms, key=lambda name: self.ms[name])


@pytest.mark.parametrize(("over", "wanted"), [((), FAST), ((FAST,), SAFE)])
def test_a_mix_that_a_wrong_table_made_slow_loses_to_the_fastest_form_for_all_within_budget(
    over: tuple[str, ...], wanted: str
) -> None:
    world = World(*over)
    try_forms(Mixer(lambda: tables(wrong=0.1), 0.25), world.attempt)
    assert len(world.ms) > 1
    assert world.choice == of_all(wanted)


def test_forms_for_all_are_in_the_order_of_their_time_as_called() -> None:
    mixer = Mixer(lambda: tables(wrong=0.1), 0.35)
    assert mixer.uniform(1) is None  # no mix is within budget that may be too slow
    assert mixer.next() is not None
    mixer.learn(good=True, share=0.7)
    assert [pipeline(mixer.uniform(number)) for number in (1, 2, 3, 4)] == [
        of_all(FAST),
        of_all(SAFE),
        of_all(BITS),
        "",
    ]
    assert mixer.next() is not None
    mixer.learn(good=False, share=1.5)
    # The second mix was over budget, and the fast form loses clearly more.
    assert pipeline(mixer.uniform(1)) == of_all(SAFE)


def test_a_form_for_all_that_by_the_tables_loses_little_more_than_a_mix_over_budget_is_tried() -> None:
    mixer = Mixer(lambda: tables(wrong=0.1), 0.25)
    assert mixer.next() is not None
    mixer.learn(good=True, share=0.8)
    mixer._outside = 0.29
    # The safe form for all loses 0.3.
    assert of_all(SAFE) in [pipeline(mixer.uniform(number)) for number in (1, 2)]


def test_a_form_for_all_that_is_slower_than_float_is_not_tried() -> None:
    mixer = Mixer(lambda: tables(wrong=9.0), 0.25)
    assert mixer.next() is not None
    mixer.learn(good=True, share=0.9)
    assert of_all(BITS) not in [pipeline(mixer.uniform(number)) for number in (1, 2, 3)]


def test_nothing_follows_a_mix_that_was_the_fastest_form_for_all() -> None:
    world = World()
    try_forms(Mixer(tables, 1.0), world.attempt)
    assert list(world.ms) == [of_all(FAST)]


def test_a_mix_whose_loss_is_unknown_ends_the_mixes_and_nothing_follows() -> None:
    assert not try_mixes(Mixer(tables, 0.25), lambda _: None)
    seen = list[str]()
    try_forms(Mixer(tables, 0.25), lambda candidate: seen.append(candidate.name))
    assert seen == ["bits-1"]


def test_steps_have_names_by_which_a_search_goes_on() -> None:
    steps = list[str]()

    def take(name: str, propose: Callable[[], Candidate | None]) -> Candidate | None:
        steps.append(name)
        return propose()

    try_forms(Mixer(lambda: tables(wrong=0.1), 0.25), World().attempt, take)
    assert steps[0] == "1"
    assert steps[-1] == "uniform 1"


@pytest.mark.parametrize("goal", list(Goal))
def test_a_search_measures_one_form_for_all_beside_a_mix_where_time_is_the_goal(
    monkeypatch: pytest.MonkeyPatch, goal: Goal
) -> None:
    monkeypatch.setattr(stages, "has_matrices", lambda _: True)
    monkeypatch.setattr(stages, "bit_tables", lambda *_, **__: tables(wrong=0.1))
    source = model()
    parts = split_parts(builders.samples_of(source, count=60), None, 0)
    found = search(source, parts, settings=Settings(Budget(0.5), latency_s=0.05, goal=goal))
    names = [trial.candidate.name for trial in found.trials]
    assert "bits-1" in names
    assert any(name.startswith("uniform-bits-") for name in names) is (goal is Goal.LATENCY)
