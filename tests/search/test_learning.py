"""Which candidates learn from the baseline, and in which order."""

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.options.search import Goal
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context
from onnxopt.search import learning, removal, stages
from onnxopt.search.budget import Budget
from onnxopt.search.learning import distilled, is_deep
from onnxopt.search.optimize import search
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, SearchResult, Verdict
from onnxopt.search.workers.preparation import Preparation
from onnxopt.target import target_of
from tests import builders
from tests.search import fakes
from tests.search.fakes import Figures, World

INT8 = {"a": Figures(speedup=2.0)}


def over(drop: float, speedup: float) -> Figures:
    """Return a candidate over the budget of 0.01."""
    return Figures(drop=drop, speedup=speedup, confidence=0.0)


def taught(
    figures: Mapping[str, Figures], *, deep: bool = True, train: bool = True, confidence: float = 0.7
) -> SearchResult:
    """Search, with training or not, of a model with or without blocks to remove."""
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, World({**INT8, **figures}))
        for module in (learning, stages):
            patch.setattr(module, "is_deep", lambda trials: deep)
        settings = Settings(Budget(0.01), confidence=confidence, target="x86-vnni", prune=True, train=train)
        return search(fakes.model(), fakes.parts(), None, settings, None)


def tried(result: SearchResult) -> list[str]:
    return [t.candidate.name for t in result.trials]


LADDER = {
    "blocks-to-92%+a": over(0.02, 2.2),
    "blocks-to-84%+a": over(0.03, 2.6),
    "blocks-to-76%+a": over(0.065, 3.3),
    "blocks-to-68%+a": over(0.135, 3.6),
    "pruned-to-75%+a": over(0.03, 2.4),
    "pruned-to-50%+a": over(0.25, 2.9),
    "pruned-to-90%+a": over(0.02, 2.1),
    "pruned-to-75%+blocks-to-84%+a": over(0.05, 3.4),
}
"""Removal without training: up to the first step out of reach, and one step of channels beside half of the reach."""

BOLDEST = "blocks-to-76%+distilled+a"
"""The fastest one within reach: of channels training leaves more."""


def test_the_fastest_candidate_within_reach_learns_and_a_bolder_one_follows_where_little_was_left() -> None:
    enough = {BOLDEST: Figures(drop=0.005, speedup=3.3)}
    result = taught({**LADDER, **enough})
    assert tried(result) == ["a", *LADDER, *enough]
    assert result.winner is not None
    assert result.winner.candidate.name == BOLDEST
    bolder = {BOLDEST: Figures(drop=0.001, speedup=3.3), "blocks-to-68%+distilled+a": Figures(speedup=3.6)}
    result = taught({**LADDER, **bolder})
    assert tried(result) == ["a", *LADDER, *bolder]
    assert result.winner is not None
    assert result.winner.candidate.name == "blocks-to-68%+distilled+a"


def test_a_drop_at_the_limit_of_reach_is_within_it() -> None:
    assert 0.08 + 1e-16 > 8 * 0.01
    figures = {"pruned-to-75%+a": over(0.3, 2.4), "pruned-to-90%+a": over(0.2, 2.1)}
    edge = {"blocks-to-92%+a": over(0.08 + 1e-16, 2.5), "blocks-to-84%+a": over(0.2, 2.6), **figures}
    taught_too = {"blocks-to-92%+distilled+a": Figures(speedup=2.5)}
    assert tried(taught({**edge, **taught_too})) == ["a", *edge, *taught_too]


def test_after_a_training_that_leaves_too_much_the_next_one_is_as_mild_as_that_demands() -> None:
    # A third of the drop is left: 0.03 may become 0.01.
    figures = {BOLDEST: over(0.02, 3.3), "blocks-to-84%+distilled+a": Figures(drop=0.008, speedup=2.6)}
    result = taught({**LADDER, **figures})
    assert tried(result) == ["a", *LADDER, *figures]
    assert result.winner is not None
    assert result.winner.candidate.name == "blocks-to-84%+distilled+a"


def test_a_training_without_blocks_says_nothing_about_channels_and_all_end_where_nothing_is_hopeful() -> None:
    figures = {
        BOLDEST: over(0.03, 3.3),
        "pruned-to-75%+distilled+a": over(0.02, 2.4),  # a quarter of 0.03 was expected
        "blocks-to-92%+distilled+a": over(0.015, 2.2),  # half of 0.02 was expected
    }
    result = taught({**LADDER, **figures})
    assert tried(result) == ["a", *LADDER, *figures]
    assert result.winner is not None
    assert result.winner.candidate.name == "a"


def test_what_is_within_budget_without_training_is_not_trained() -> None:
    ladder = {
        "pruned-to-75%+a": Figures(speedup=2.5),
        "pruned-to-50%+a": Figures(speedup=3.0),
        "pruned-to-35%+a": over(0.3, 4.0),
        "pruned-to-45%+a": Figures(speedup=3.2),
    }
    # Out of reach, but the only one that training could help.
    last = {"pruned-to-35%+distilled+a": over(0.1, 4.0)}
    result = taught({**ladder, **last}, deep=False)
    assert tried(result) == ["a", *ladder, *last]
    assert result.winner is not None
    assert result.winner.candidate.name == "pruned-to-45%+a"


def test_the_best_within_budget_learns_too_where_the_search_samples_do_not_make_it_sure() -> None:
    # By far the fastest one, but inside the budget with less confidence than a proof requires.
    luck = {"pruned-to-75%+a": Figures(drop=0.008, speedup=3.0, confidence=0.8), "pruned-to-50%+a": over(0.3, 4.0)}
    figures = {**luck, "pruned-to-65%+a": over(0.2, 3.5)}
    sure = {"pruned-to-75%+distilled+a": Figures(drop=0.001, speedup=3.0)}
    result = taught({**figures, **sure}, deep=False, confidence=0.9)
    assert tried(result) == ["a", *figures, *sure]
    assert result.winner is not None
    assert result.winner.candidate.name == "pruned-to-75%+distilled+a"


@pytest.mark.parametrize("train", [False, True])
def test_what_is_removed_precedes_the_most_accurate_of_equally_fast_candidates(train: bool) -> None:
    equal = {"a": Figures(drop=0.001, speedup=2.0), "b": Figures(drop=0.008, speedup=2.02)}
    removed = {
        "pruned-to-75%+a": Figures(speedup=1.5),
        "pruned-to-50%+a": over(0.3, 1.5),
        "pruned-to-65%+a": over(0.2, 1.5),
    }
    result = taught({**equal, **removed}, deep=False, train=train)
    assert tried(result) == [*equal, *removed]


def test_a_candidate_that_is_not_clearly_faster_than_the_best_does_not_learn() -> None:
    figures = {
        "pruned-to-75%+a": over(0.02, 2.04),
        "pruned-to-50%+a": over(0.3, 1.95),
        "pruned-to-90%+a": over(0.2, 1.9),
    }
    assert tried(taught(figures, deep=False)) == ["a", *figures]


@pytest.mark.parametrize(("goal", "cost"), [(Goal.LATENCY, 1 / 3), (Goal.SIZE, 1 / 4)])
def test_a_candidate_whose_trial_ended_before_is_measured_by_the_goal(monkeypatch, goal: Goal, cost: float) -> None:
    trial = SimpleNamespace(latency=None, candidate=Candidate("pruned-to-50%+a", ()))
    ms = {"whole": 9.0, "half": 3.0}
    monkeypatch.setattr(learning.model_file, "size_bytes", {"half": 25}.__getitem__)
    trials = SimpleNamespace(
        model="whole",
        build=lambda candidate: "half",
        latency=lambda models, seconds: {name: SimpleNamespace(p50_ms=ms[model]) for name, model in models.items()},
        settings=SimpleNamespace(latency_s=1.0, goal=goal),
        bar=SimpleNamespace(baseline_bytes=100),
        deadline=SimpleNamespace(in_time=lambda make: make()),
        recall=lambda name, make, read: read(make()),
        enough=lambda: False,
    )
    assert learning._cost(trials, trial) == pytest.approx(cost)  # type: ignore[arg-type]
    trials.enough = lambda: True
    assert learning._cost(trials, trial) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(("blocks", "deep"), [(6, False), (7, True)])
def test_a_model_is_deep_where_a_share_of_its_blocks_is_at_least_one(blocks: int, deep: bool) -> None:
    net, x = builders.Net(1), "x"
    for _ in range(blocks):
        x = net.node("Add", x, net.node("MatMul", x, net.weight(8, 8)))
    net.node("MatMul", x, net.weight(8, 4), out="y")
    model = net.model([builders.ROWS], [builders.CLASSES], opset=13)
    assert is_deep(SimpleNamespace(model=model)) is deep  # type: ignore[arg-type]


def residual_net(*widths: int) -> ir.Model:
    """Return a model of three removable blocks of each width, the second of which changes its input least."""
    net, x, before = builders.Net(1), "x", 3
    for width in widths:
        x, before = net.node("Relu", net.conv(x, before, width)), width
        for size in (0.5, 0.01, 0.3):
            inner = net.node("Relu", net.conv(x, width, width))
            last = net.node("Mul", net.conv(inner, width, width), net.const(np.float32(size)))
            x = net.node("Relu", net.node("Add", x, last))
    net.pool_fc(x, before, 4)
    return net.model([builders.IMAGE], [builders.CLASSES], opset=13)


def sized(
    model: ir.Model, drops: Mapping[str, float], speeds: Mapping[str, float] = MappingProxyType({})
) -> tuple[list[Candidate], Preparation]:
    """Return the candidates without blocks by size, where these have drops in reach, and times are known."""
    context = Context(target_of("x86-vnni"))
    asked = list[Candidate]()

    def run(candidate: Candidate) -> SimpleNamespace:
        asked.append(candidate)
        drop = SimpleNamespace(value=drops.get(candidate.name, 0.5), broken=False)
        speed = speeds.get(candidate.name)
        latency = None if speed is None else SimpleNamespace(speedup=SimpleNamespace(value=speed))
        return SimpleNamespace(candidate=candidate, verdict=Verdict.OVER_BUDGET, drop=drop, latency=latency)

    trials = SimpleNamespace(
        context=context,
        preparation=Preparation(model, context),
        parts=SimpleNamespace(calibration=builders.samples_of(model)),
        bar=SimpleNamespace(allowed_drop=0.01, rank=lambda trial: 1 / trial.latency.speedup.value),
        deadline=SimpleNamespace(in_time=lambda make: make()),
        enough=lambda: False,
        run=run,
    )
    made = removal.without_blocks_by_size(trials, Candidate("float", ()))  # type: ignore[arg-type]
    assert len(made) == len(asked)
    return asked, trials.preparation


def test_neighbouring_blocks_of_one_size_go_alone_until_the_drop_is_out_of_reach() -> None:
    drops = {"blocks-1-to-67%+float": 0.05, "blocks-2-to-67%+float": 0.05}
    asked, preparation = sized(residual_net(4, 8), drops)
    assert [one.name for one in asked] == [f"blocks-{n}-to-{share}%+float" for n in (1, 2) for share in (67, 33)]
    layers = len(list(preparation.run(asked[0].passes[:1]).model.graph))
    for one, gone in zip(asked, (1, 2, 1, 2), strict=True):
        made = preparation.run(one.passes)
        removed = [edit.target for edit in made.steps[1].edits if edit.target not in one.passes[1].exclude]
        assert len(removed) > gone - 1
        assert len(list(made.model.graph)) < layers


@pytest.mark.parametrize(
    ("drops", "speeds", "together"),
    [
        ((0.05, 0.07, 0.05, 0.2), (2.0, 2.6, 2.1, 2.2), ["33", "67"]),  # 0.12 in all: 1.5 times the reach
        ((0.05, 0.08, 0.05, 0.2), (2.0, 2.6, 2.1, 2.2), ["67", "67"]),
        ((0.09, 0.2, 0.05, 0.2), (2.0, 2.6, 2.1, 2.2), []),
        ((0.05, 0.07, 0.05, 0.2), (2.0, None, 2.1, 2.2), ["67", "67"]),
    ],
)
def test_blocks_of_two_sizes_go_together_where_their_drops_add_up_to_little(
    drops: tuple[float, ...], speeds: tuple[float | None, ...], together: list[str]
) -> None:
    names = [f"blocks-{n}-to-{share}%+float" for n in (1, 2) for share in (67, 33)]
    known = {name: speed for name, speed in zip(names, speeds, strict=True) if speed is not None}
    asked, preparation = sized(residual_net(4, 8), dict(zip(names, drops, strict=True)), known)
    pairs = [one for one in asked if one.name.count("blocks") == 2]
    assert len(pairs) <= 2
    if not together:
        assert pairs == []
        return
    assert pairs[0].name == "blocks-1-to-{}%+blocks-2-to-{}%+float".format(*together)
    (first, second) = (
        next(one for one in asked if one.name == part + "+float") for part in pairs[0].name.split("+")[:2]
    )
    assert {*pairs[0].passes[1].exclude} == {*first.passes[1].exclude} & {*second.passes[1].exclude}
    assert pairs[0].passes[1].count == first.passes[1].count + second.passes[1].count
    assert preparation.run(pairs[0].passes).model is not None


def test_the_block_that_matters_least_goes_first_and_then_a_neighbour_of_it() -> None:
    losses = {"a": 0.9, "b": 0.2, "c": 0.8, "d": 0.1, "e": 0.95}
    gone = [{*removal.neighbours(losses, count)} for count in (1, 2, 3)]
    assert gone == [{"d"}, {"c", "d"}, {"b", "c", "d"}]


def test_blocks_of_one_size_alone_or_of_many_sizes_are_not_tried() -> None:
    assert sized(residual_net(4), {})[0] == []
    assert [one.name[:8] for one in sized(residual_net(3, 4, 5, 6, 7), {})[0]] == [f"blocks-{n}" for n in range(1, 5)]


@pytest.mark.parametrize(("steps", "made"), [(49, 0), (50, 1)])
def test_with_time_for_a_few_steps_nothing_is_distilled(steps: int, made: int) -> None:
    run = list[Candidate]()
    pruned = Candidate("pruned-to-75%+float", (Simplify(fuse=False), PruneChannels(macs=0.75)))
    trials = SimpleNamespace(
        recall=lambda name, make, read: read([steps] if name.startswith("steps after") else {}),
        parts=SimpleNamespace(calibration=range(50_000)),
        deadline=SimpleNamespace(in_time=lambda make: make()),
        run=run.append,
        enough=lambda: False,
    )
    distilled(trials, pruned)  # type: ignore[arg-type]
    assert [one.passes[2].steps for one in run] == [steps] * made
