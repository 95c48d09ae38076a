"""Mixes follow from the tables, and the loss allowed follows from what was measured of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from onnxopt.catalog import format_passes
from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.edit import name_nodes
from onnxopt.measure.latency import Latency
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.statistics import Interval
from onnxopt.options.search import Goal
from onnxopt.passes.distill import Distill
from onnxopt.passes.factorize import Factorize
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search import candidates as strategies
from onnxopt.search import learning, optimize, stages
from onnxopt.search.budget import Budget
from onnxopt.search.candidates import first_candidates
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.mix.cost_tables import CostTables, tables_of
from onnxopt.search.mix.layer_times import LayerTimes
from onnxopt.search.mix.mixer import Mixer, quantizer_of
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts, typical_feeds
from onnxopt.search.recovery import stages_before
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate
from onnxopt.search.workers import runner
from onnxopt.solver import Group, LayerOptions, Problem
from onnxopt.target import target_of
from tests import builders


def tables(levels: int = 8) -> CostTables:
    """Return one group of channels, each level of which saves a tenth and loses twice as much as the one before."""
    losses = (0.0, *(0.002 * 2**i for i in range(levels)))
    group = Group(losses, (0.0,) * (levels + 1))
    times = 1.0 - 0.1 * np.arange(levels + 1)
    layers = {"a": LayerOptions(("a",), {"float": times, "INT8": times / 2}, {"float": 0.0, "INT8": 0.001})}
    shares = tuple(0.1 * i for i in range(levels + 1))
    return CostTables(
        Problem({"a": group}, layers, (), frozenset({"INT8"})), 1.0, {"a": shares}, {}, ("a",), QuantizeStatic()
    )


def test_the_first_mix_is_the_fastest_inside_the_loss() -> None:
    made = Mixer(tables).next()
    assert made is not None
    assert made.name == "mixed-1+static-minmax"
    assert "ratios=[a:0.30000000000000004]" in format_passes(made.passes)
    assert made.predicted == pytest.approx(0.35)


def test_what_is_inside_is_pushed_further_and_what_is_outside_is_taken_back() -> None:
    mixer = Mixer(tables)
    first = mixer.next()
    mixer.learn(good=True, share=0.1)
    second = mixer.next()
    mixer.learn(good=False, share=3.0)
    third = mixer.next()
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.predicted < third.predicted < first.predicted


def test_it_goes_on_from_the_earlier_reports() -> None:
    one, other = Mixer(tables), Mixer(tables)
    one.next()
    one.learn(good=True, share=0.1)
    other.learn(good=True, share=0.1)
    assert other.next() == one.next()


def test_the_same_mix_is_not_tried_twice() -> None:
    mixer = Mixer(lambda: tables(1))
    assert mixer.next() is not None
    mixer.learn(good=True, share=0.0)
    assert mixer.next() is None


def test_quantizations_are_taken_over_for_all_layers() -> None:
    found = {c.name: quantizer_of(c) for c in first_candidates()}
    assert isinstance(found["static-minmax"], QuantizeStatic)
    assert isinstance(found["dynamic"], QuantizeDynamic)
    assert found["simplify"] is None
    kept = Candidate("kept", (QuantizeStatic(method="mse", exclude=("a",), placement="measured"),))
    assert quantizer_of(kept) == QuantizeStatic(method="mse", placement="all", min_sqnr_db=0)


def of_a_network(goal: Goal) -> tuple:
    """Return a small network, its samples and its tables."""
    model = builders.BUILDERS["residual_cnn"]()
    parts = split_parts(builders.samples_of(model, count=60), None, 0)
    context = Context(target_of("x86-vnni"), parts.calibration)
    feeds = typical_feeds(parts.search, 1)
    made = tables_of(
        model,
        context,
        feeds,
        Runtime(),
        goal=goal,
        quantizer=QuantizeStatic(placement="all"),
        times=LayerTimes(None, Runtime()),
    )
    return model, parts, context, made


@pytest.fixture(scope="module")
def real() -> tuple:
    return of_a_network(Goal.SIZE)


def test_tables_of_a_network_add_up_to_the_time_of_the_whole() -> None:
    made = of_a_network(Goal.LATENCY)[3]
    whole = made.problem.cost(made.problem.whole())
    assert made.original > 0
    # What the simplified network takes differs from the original's, and conversions are only paid for integers.
    assert 0.3 * made.original < whole < 2 * made.original
    assert made.problem.loss(made.problem.whole()) == 0
    assert any("INT8" in layer.costs for layer in made.problem.layers.values())


def test_candidates_of_real_tables_can_be_built(real) -> None:
    model, _, context, made = real
    mixer = Mixer(lambda: made)
    mixer._allowed = 10.0
    candidate = mixer.next()
    assert candidate is not None
    built = Pipeline(candidate.passes).run(model, context)
    assert built.steps[-1].edits


@pytest.fixture
def few(monkeypatch) -> None:
    """Keep the plan short, and every candidate as fast as the others: a network this small is timed as noise."""

    def measured(models, *_, **__):
        faster = Interval(1.9, 2, 2.1)
        return {
            name: Latency(1.0, 1, 1, 9, 1, 1, None if name == "baseline" else faster, None, 1, Interval(1, 1, 1))
            for name in models
        }

    monkeypatch.setattr(runner, "measure_latency", measured)
    monkeypatch.setattr(optimize, "first_candidates", lambda: first_candidates()[:2])
    monkeypatch.setattr(stages, "PRUNED", ())


def test_a_search_tries_mixes_and_goes_on_where_there_are_none(real, few, monkeypatch) -> None:
    model, parts, _, made = real
    monkeypatch.setattr(stages, "tables_of", lambda *_, **__: made)
    settings = Settings(Budget(0.5), target="x86-vnni", latency_s=0.02, prune=True, goal=Goal.SIZE)
    found = search(model, parts, None, settings)
    mixes = [t for t in found.trials if t.candidate.name.startswith("mixed-")]
    assert mixes
    assert all(t.candidate.predicted for t in mixes)
    assert found.winner is not None
    before = [by for by, _ in stages_before(found.winner.candidate)]
    assert [by for by, _ in found.recovered[:-1]] == before
    assert not before or found.recovered[-1] == ("least squares", found.winner.drop.value)

    def fail(*_, **__):
        raise ModelError("ONX304", "no tables")

    monkeypatch.setattr(stages, "tables_of", fail)
    assert not [t for t in search(model, parts, None, settings).trials if t.candidate.name.startswith("mixed-")]


def test_a_mix_beyond_the_loss_that_is_allowed_leaves_that_as_it_was() -> None:
    mixer = Mixer(tables)
    first = mixer.next()
    mixer.learn(good=True, share=1.0)
    beyond = mixer.beyond(3.0)
    assert first is not None
    assert beyond is not None
    assert beyond.predicted < first.predicted
    assert mixer.beyond(3.0) is None
    told = Mixer(tables)
    told.learn(good=True, share=1.0)
    assert told.beyond(3.0) == beyond


@pytest.fixture
def beyond(few, monkeypatch) -> None:
    """Have no mix inside the budget, and ever smaller ones beyond it."""

    def mix(factor: float, before: tuple[float, ...]) -> Candidate:
        name, spec = f"mixed-{factor:g}+dynamic", PruneChannels(macs=0.5 / factor, round_to=1)
        return Candidate(name, (Simplify(fuse=False), spec, QuantizeDynamic()), 0.5 / factor)

    monkeypatch.setattr(stages, "Mixer", lambda _: SimpleNamespace(next=lambda: None, beyond=mix))


def test_with_training_mixes_that_lose_too_much_learn_from_the_original(real, beyond) -> None:
    pytest.importorskip("torch")
    model, parts, _, _ = real
    settings = Settings(Budget(0.0), target="x86-vnni", latency_s=0.02, prune=True, train=True, goal=Goal.SIZE)
    taught = [t for t in search(model, parts, None, settings).trials if t.candidate.predicted]
    assert [t.candidate.name for t in taught] == ["mixed-3+distilled+dynamic", "mixed-1.5+distilled+dynamic"]
    assert [t.candidate.predicted for t in taught] == [0.5 / 3, 0.5 / 1.5]
    assert [[type(spec) for spec in t.candidate.passes] for t in taught] == 2 * [
        [Simplify, PruneChannels, Distill, QuantizeDynamic]
    ]
    assert all(t.score is not None for t in taught)
    generous = replace(settings, budget=Budget(0.9), confidence=0.5)
    taught = [t for t in search(model, parts, None, generous).trials if t.candidate.predicted]
    assert [t.candidate.name for t in taught] == ["mixed-3+distilled+dynamic", "mixed-9+distilled+dynamic"]


def test_a_training_that_takes_too_long_is_given_up(real, beyond, monkeypatch) -> None:
    pytest.importorskip("torch")
    model, parts, _, _ = real
    now = [0.0]
    as_it_is = strategies.recovered

    def late(candidate, samples, most, precision):
        now[0] = 9.0
        return as_it_is(candidate, samples, most, precision)

    clock = Deadline(8, clock=lambda: now[0])
    monkeypatch.setattr(learning, "recovered", late)
    monkeypatch.setattr(learning, "affordable_steps", lambda *_: 200)  # beside other load a step may take long
    settings = Settings(
        Budget(0.1), target="x86-vnni", latency_s=0.02, prune=True, train=True, goal=Goal.SIZE, time_limit_s=8
    )
    found = search(model, parts, None, settings, deadline=clock)
    assert now == [9.0]
    assert found.stopped == "the time limit of 8 s was reached after 3 candidates"
    assert len(found.trials) == 3


def test_many_samples_are_seen_less_often() -> None:
    pruned = Candidate("mixed-1+float", (Simplify(fuse=False), PruneChannels(macs=0.5), Factorize(), Simplify()), 0.5)
    few, many = strategies.recovered(pruned, 100), strategies.recovered(pruned, 50_000)
    assert [type(spec) for spec in few.passes] == [Simplify, PruneChannels, Factorize, Distill, Simplify]
    assert few.passes[3].steps == 0
    assert few.passes[3].epochs > 1
    assert 0 < many.passes[3].steps * many.passes[3].batch_size < 50_000 * few.passes[3].epochs


def test_a_distillation_takes_no_more_steps_than_the_time_allows() -> None:
    pruned = Candidate("mixed-1+float", (Simplify(fuse=False), PruneChannels(macs=0.5)), 0.5)
    assert strategies.recovered(pruned, 50_000, 200).passes[2].steps == 200
    assert strategies.recovered(pruned, 100, 200).passes[2].steps == 0, "40 epochs are fewer"
    assert strategies.recovered(pruned, 100, 20).passes[2].steps == 20


def test_tables_that_take_too_long_are_given_up(real, few, monkeypatch) -> None:
    model, parts, _, _ = real
    now = [0.0]

    def endless(model, context, *_, **__):
        while True:
            now[0] += 1
            context.progress("tables", 0, 1)

    clock = Deadline(8, clock=lambda: now[0])
    monkeypatch.setattr(stages, "tables_of", endless)
    settings = Settings(
        Budget(0.5), target="x86-vnni", latency_s=0.02, prune=True, goal=Goal.SIZE, time_limit_s=8, confidence=0.5
    )
    found = search(model, parts, None, settings, deadline=clock)
    assert found.stopped == "the time limit of 8 s was reached after 2 candidates"
    assert len(found.trials) == 2
    assert not [t for t in found.trials if t.candidate.name.startswith("mixed-")]


def test_mixes_for_training_go_on_from_those_of_an_earlier_part() -> None:
    mixer, resumed = Mixer(tables), Mixer(tables)
    mixer.next()
    for one in (mixer, resumed):
        one.learn(good=True, share=1.0)
    assert mixer.beyond(3.0) is not None
    second = mixer.beyond(9.0, (3.0,))
    assert second is not None
    assert resumed.beyond(9.0, (3.0,)) == second
    assert second.name.startswith("mixed-3")


def test_layers_without_names_get_mixes_too() -> None:
    made = []
    for named in (True, False):
        model = builders.BUILDERS["gemm_mlp"]()
        for node in model.graph:
            node.name = ""
        if named:
            name_nodes(model)
        parts = split_parts(builders.samples_of(model, count=60), None, 0)
        context = Context(target_of("x86-vnni"), parts.calibration)
        quantizer, times = QuantizeStatic(placement="all"), LayerTimes(None, Runtime())
        feeds = typical_feeds(parts.search, 1)
        found = tables_of(model, context, feeds, Runtime(), goal=Goal.SIZE, quantizer=quantizer, times=times)
        candidate = Mixer(lambda found=found: found).next()
        assert candidate is not None
        assert Pipeline(candidate.passes).run(model, context).steps[-1].edits
        made.append((sorted(found.problem.layers), candidate))
    assert made[0] == made[1]


def test_a_lost_cluster_is_not_taken_for_a_model_without_mixes(real, few, monkeypatch) -> None:
    model, parts, _, _ = real

    def lost(*_, **__):
        raise NativeError("ONX407", "the connection to the cluster was lost")

    monkeypatch.setattr(stages, "tables_of", lost)
    with pytest.raises(NativeError, match="ONX407"):
        search(model, parts, None, Settings(Budget(0.5), target="x86-vnni", latency_s=0.02, prune=True))
