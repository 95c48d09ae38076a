"""A search whose measurements are made up, so that what it decides can be tested for any of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import ModelError
from onnxopt.measure.accuracy import Stop
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.classification import TopK
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.model_file import to_bytes
from onnxopt.passes.distill import Distill
from onnxopt.passes.fuse_attention import FuseAttention
from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.search import optimize, stages
from onnxopt.search.candidates import ATTENTION, pruned, recovered, shallower
from onnxopt.search.observer import NullObserver
from onnxopt.search.parts import Parts, split_parts
from onnxopt.search.race import FIRST
from onnxopt.search.trial import Candidate, Trial
from onnxopt.search.workers import preparation, runner
from tests import builders


@dataclass(frozen=True)
class Figures:
    """What a candidate is going to be measured as.

    Attributes:
        drop: on the search part.
        speedup: beside the original on the search part.
        spread: half the width of the interval of the speed-up.
        holdout_drop: on the hold-out part.
        holdout_speedup: measured again for the proof.
        confidence: probability that the true drop is inside the budget.
        broken: whether it gives NaN.
        bytes_saved: what its size is less than the original's.
        error: what building or running it ends with.
        unsure: how many times the clock is unsure of it.
        early_drop: on the first samples that it is scored on, where the search looks at it for the first time.
    """

    drop: float = 0.0
    speedup: float = 2.0
    spread: float = 0.1
    holdout_drop: float | None = None
    holdout_speedup: float | None = None
    confidence: float = 0.99
    broken: bool = False
    bytes_saved: int = 10
    error: BaseException | None = None
    unsure: int = 0
    early_drop: float = 0.0


@dataclass(frozen=True)
class Score:
    """A made-up evaluation."""

    name: str
    value: float
    non_finite: int = 0
    n: int = 100
    metric: Metric = field(default_factory=lambda: TopK(1))
    choice: str = "made up"
    left_out: tuple[int, ...] = ()
    rows: np.ndarray = field(default_factory=lambda: np.ones((100, 1)))


@dataclass
class World:
    """Makes up every measurement of a search, by the name of the candidate."""

    figures: Mapping[str, Figures]
    score: float = 0.9
    names: dict[bytes, str] = field(default_factory=dict)
    judged: list[tuple[str, str]] = field(default_factory=list)
    timed: list[str] = field(default_factory=list)

    def name_of(self, model: ir.Model) -> str:
        return str(model.metadata_props.get("candidate", "baseline"))

    def evaluate(self, model: ir.Model, part: str) -> Score:
        name = self.name_of(model)
        self.judged.append((part, name))
        error = self.figures[name].error
        if error is not None:
            raise error
        return Score(name, self.score)

    def drop(self, score: Score, part: str) -> Drop:
        made = self.figures[score.name]
        value = made.drop if part == "search" or made.holdout_drop is None else made.holdout_drop
        inside = round(1000 * made.confidence)
        draws = np.array([-1e9] * inside + [1e9] * (1000 - inside))
        interval = Interval(value, value, value)
        return Drop(value, interval, 10_000, None, None, None, made.broken, draws)

    def latency(self, models: Mapping[str, ir.Model], *_: Any, seconds: float, **__: Any) -> dict[str, Latency]:
        found = {}
        for name in models:
            speedup = None
            self.timed.append(name)
            if name != "baseline":
                made = self.figures[name]
                proof = seconds > 2 and made.holdout_speedup is not None
                value = made.holdout_speedup if proof and made.holdout_speedup is not None else made.speedup
                speedup = Interval(value - made.spread, value, value + made.spread)
            p50_ms = 1.0 if speedup is None else 1 / speedup.value
            unsure = "busy" if name != "baseline" and self.timed.count(name) <= self.figures[name].unsure else ""
            own = Interval(1.0, p50_ms, 1.0)
            found[name] = Latency(
                p50_ms, 1.0, 1.0, 100, 1.0, 1.0, None if unsure else speedup, None, 1, own, unsure=unsure
            )
        return found

    def size(self, model: ir.Model) -> int:
        name = self.name_of(model)
        return 1000 - (0 if name == "baseline" else self.figures[name].bytes_saved)


class FakeJudge:
    kind, metric_name, unit, choice = "accuracy", "made up", "share", "made up"

    def __init__(self, world: World, part: str) -> None:
        self.world, self.part = world, part

    def baseline(self) -> Score:
        return Score("baseline", self.world.score)

    def slowdown(self, share: float) -> float:
        return 1.0

    def evaluate(self, model: ir.Model, stop: Stop | None = None, **_: Any) -> Score:
        score = self.world.evaluate(model, self.part)
        rows = np.ones((FIRST, 1))
        rows[: round(FIRST * self.world.figures[score.name].early_drop)] = 0
        if stop is not None and stop([rows], FIRST):
            return replace(score, n=FIRST, rows=rows)
        return score

    def drop(self, score: Score) -> Drop:
        drop = self.world.drop(score, self.part)
        early = self.world.figures[score.name].early_drop if score.n < 100 else drop.value
        return replace(drop, value=early, n=score.n)


class Recorder(NullObserver):
    """Writes down what a search tells."""

    def __init__(self) -> None:
        self.planned_names: list[str] = []
        self.finished_trials: list[Trial] = []
        self.best_names: list[str] = []
        self.best_models: list[bytes] = []

    def planned(self, candidates: Any) -> None:
        self.planned_names = [c.name for c in candidates]

    def finished(self, trial: Trial) -> None:
        self.finished_trials.append(trial)

    def best(self, model: ir.Model, trial: Trial) -> None:
        self.best_names.append(trial.candidate.name)
        self.best_models.append(to_bytes(model))


def model() -> ir.Model:
    return builders.BUILDERS["gemm_mlp"]()


def parts() -> Parts:
    return split_parts(builders.samples_of(model(), count=40), None, 0)


def named(name: str) -> tuple[Any, ...]:
    """Return passes that tell a candidate apart from all others."""
    return parse(f"quantize-dynamic{{exclude=[{name}]}}")


Install = Callable[[pytest.MonkeyPatch, World], None]


def _name(plan: Mapping[str, tuple[Any, ...]], passes: tuple[Any, ...]) -> str:
    """Return the candidate that consists of `passes`."""
    place = next((i for i, p in enumerate(passes) if isinstance(p, PruneBlocks | PruneChannels)), None)
    if place is not None:
        spec, behind = passes[place], passes[place + 1 :]
        rest = tuple(p for p in behind if not isinstance(p, Distill))
        base = Candidate(_name(plan, rest) if rest else "float", rest)
        made = pruned(base, spec.macs) if isinstance(spec, PruneChannels) else shallower(base, round(1 - spec.ratio, 2))
        return made.name if rest == behind else recovered(made, 100).name
    fused = next((p for p in passes if isinstance(p, FuseAttention)), None)
    if fused is not None:
        return f"{_name(plan, tuple(p for p in passes if p != fused))}-{ATTENTION[fused.form]}"  # type: ignore[index]
    return next((c for c, p in plan.items() if p == passes), None) or next(
        (c for c in ("b-placed",) if named(c) == passes), "baseline"
    )


def refused(*_: Any, **__: Any) -> Any:
    """Make no tables: mixes have tests of their own."""
    raise ModelError("ONX304", "no tables for made-up figures")


def install(patch: pytest.MonkeyPatch, world: World) -> None:
    """Replace building and measuring; what decides stays as it is."""
    here = parts()

    class Pipeline:
        def __init__(self, passes: tuple[Any, ...]) -> None:
            self.passes = passes

        def run(self, source: ir.Model, context: Any) -> Any:
            from onnxopt.pipeline import Edit, Optimized, Step

            built = source.clone()
            name = _name(plan, self.passes)
            built.metadata_props["candidate"] = name
            return Optimized(built, tuple(Step(p, (Edit("layer", "done"),), (), 0.0) for p in self.passes))

    names = [name for name in world.figures if "+" not in name and not name.endswith(("-placed", "-attention"))]
    plan = {name: named(name) for name in names}
    patch.setattr(stages, "tables_of", refused)
    patch.setattr(stages, "bit_tables", refused)
    part_names = {len(here.search): "search", len(here.holdout): "holdout"}
    patch.setattr(preparation, "Pipeline", Pipeline)
    patch.setattr(runner, "Pipeline", Pipeline)
    patch.setattr(optimize, "first_candidates", lambda: tuple(Candidate(n, p) for n, p in plan.items()))
    patch.setattr(runner, "measure_latency", world.latency)
    patch.setattr(optimize.model_file, "size_bytes", world.size)
    patch.setattr(
        runner, "LabelJudge", lambda m, samples, *_, **__: FakeJudge(world, part_names.get(len(samples), "holdout"))
    )
    patch.setattr(
        runner, "FidelityJudge", lambda m, samples, *_, **__: FakeJudge(world, part_names.get(len(samples), "holdout"))
    )
