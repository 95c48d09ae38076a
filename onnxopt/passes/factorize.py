"""Low-rank factorization of layers."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import ModelError, NativeError, UsageError
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.layers import anatomy_of
from onnxopt.graph.probe import fed_shapes
from onnxopt.measure.latency.latency_table import LatencyTable
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.verdict import one_sample
from onnxopt.pipeline import Applied, Context, Effect, Pass, Skip
from onnxopt.quantization.placement.node_times import layer_times_ms
from onnxopt.reconstruction.batches import rebatched
from onnxopt.reconstruction.factorizable import FactorizableModel
from onnxopt.reconstruction.low_rank.attempt import AttemptBuilder, LowRankAttempt
from onnxopt.reconstruction.low_rank.chain_timer import in_place, timer_of
from onnxopt.reconstruction.low_rank.forms import FORMS, Form
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics, seen_by
from onnxopt.reconstruction.low_rank.plan import RankGoal, RankPlan, plan_ranks
from onnxopt.samples import Feeds

_ATTEMPTS = 3
_SIZE = 32
"""Assumed size of dynamic dimensions behind the first, without samples."""


@dataclass(frozen=True)
class Factorize(Pass):
    """Factorize weights into low-rank products where that makes the model faster.

    With calibration samples each layer keeps the directions of its outputs with the largest variance, and is fitted to
    correct the errors of the layers before it. At most one of energy, rank_ratio, max_error, macs and latency sets the
    ranks; without any, each layer keeps 95 % of the variance of its outputs, or without samples the singular values
    above the noise. A proof compares the factors with their product in place of the weight.

        Conv(3x3, 64 -> 64)   ->   Conv(3x3, 64 -> 16) - Conv(1x1, 16 -> 64)

    In recurrent layers the product with the inputs is factorized; the recurrence, which runs inside one node, is not.
    Products in the body of a Scan are layers too. Grouped convolutions keep their groups.

    Attributes:
        energy: least share of the variance of its outputs that each layer keeps.
        rank_ratio: largest share of its full rank that each layer keeps.
        max_error: largest error of each layer, relative to the standard deviation of its outputs.
        macs: remaining share of the model's MACs, with the ranks that change the outputs least.
        latency: remaining share of the model's latency, likewise; layers are measured.
        forms: factorizations of convolutions: `channel` (k x k, then 1 x 1), `input` (1 x 1, then k x k), `tucker`
            (k x k between two 1 x 1) and `spatial` (k x 1, then 1 x k); matrix products have one form.
        round_to: ranks are multiples of this number; `auto` is the width of the target's registers.
        data_aware: use calibration samples, if there are any.
        sequential: fit each layer on inputs from the layers factorized so far.
        measured: predict times by measuring layer shapes on this machine, instead of by MACs; always on with `latency`.
        cache: keep these times in the user's cache folder.
        verify: measure the whole model, and undo factorizations without a speed-up.
        exclude: names of nodes not to factorize.
    """

    name: ClassVar[str] = "factorize"
    effect: ClassVar[Effect] = Effect.LOSSY

    energy: Annotated[float, Field(gt=0, lt=1)] | None = None
    rank_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    macs: Annotated[float, Field(gt=0, lt=1)] | None = None
    latency: Annotated[float, Field(gt=0, lt=1)] | None = None
    forms: tuple[Form, ...] = FORMS
    round_to: Literal["auto", 1, 2, 4, 8, 16, 32, 64] = "auto"
    data_aware: bool = True
    sequential: bool = True
    measured: bool = False
    cache: bool = True
    verify: bool = True
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Factorize `model`; skips name the other layers with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name, ONX109 several goals are given.
            NativeError: ONX403 the options need times and the processor is emulated.
        """
        goal = self._goal()
        samples = rebatched(model, context.calibration) if self.data_aware else None
        work = FactorizableModel.of(model, self.exclude, samples)
        skipped = [Skip(name, reason) for name, reason in work.refused.items()]
        if not work.layers:
            return Applied(model, (), tuple(skipped))
        seen = seen_by(work.model, list(work.layers.values()), samples) if samples is not None else {}
        feeds = one_sample(model, context.calibration)
        planned = self._planner(model, work, seen, context, feeds)
        build = AttemptBuilder(model, work, seen, samples, feeds, sequential=self.sequential, timed=self.verify)
        plan, missed = planned(goal), list[LowRankAttempt]()
        for attempt in range(_ATTEMPTS):
            if not plan.chosen:
                break
            made, reason = build(plan)
            if made is None:
                skipped += [Skip(name, reason) for name in plan.chosen]
                break
            if made.is_over(self.latency):
                missed.append(made)
                if attempt < _ATTEMPTS - 1 and not plan.missed:
                    # What the layers' own times do not tell is taken off the next goal.
                    goal = replace(goal, latency=max((goal.latency or 1.0) - made.over(self.latency), 0.01))
                    plan = planned(goal)
                    continue
                # What is out of reach is not worth the accuracy of aiming lower.
                made = next((one for one in missed if one.is_faster), made)
            if made.is_faster:
                skipped += [Skip(name, reason) for name, reason in made.plan.refused.items()]
                skipped += [Skip("graph", text) for text in made.misses(self.latency)]
                return Applied(made.model, made.edits(), tuple(skipped), made.difference)
            slow = _slower_half(plan)
            skipped += [Skip(name, f"undone: with it the model took {made.share:.2f} of the time") for name in slow]
            for name in slow:
                plan.chosen.pop(name)
        skipped += [Skip(name, reason) for name, reason in plan.refused.items()]
        return Applied(model, (), (*skipped, *([Skip("graph", plan.missed)] if plan.missed else [])))

    def _goal(self) -> RankGoal:
        numbers = {name: getattr(self, name) for name in ("energy", "rank_ratio", "max_error", "macs", "latency")}
        given = [name for name, number in numbers.items() if number is not None]
        if len(given) > 1:
            raise UsageError(
                "ONX109",
                "options of pass factorize contradict each other",
                where=", ".join(given),
                why="each one sets the ranks",
                hint="Give one of them.",
            )
        return RankGoal(**numbers)

    def _planner(
        self,
        model: ir.Model,
        work: FactorizableModel,
        seen: Mapping[str, LayerStatistics],
        context: Context,
        feeds: Feeds,
    ) -> Callable[[RankGoal], RankPlan]:
        """Return the function that makes a plan for a goal; the model and its layers are measured once."""
        fed = {name: array.shape for name, array in feeds.items()} or fed_shapes(work.model, 1, _SIZE)
        timer, total_ms = None, 0.0
        if self.measured or self.latency is not None:
            table = LatencyTable(cache_folder() if self.cache else None)
            timer = timer_of(work.model, work.shapes(feeds, fed), table, work.inner)
            total_ms = table.once_ms(model, feeds)
            timer = in_place(timer, _inside_ms(work.model, feeds, total_ms, work.inner))
        block = self.round_to if self.round_to != "auto" else context.target.register_floats
        return partial(
            plan_ranks,
            work.model,
            work.layers,
            seen,
            forms=self.forms,
            block=block,
            samples=work.samples,
            macs={layer.name: layer.macs for layer in anatomy_of(with_input_shapes(work.model, fed)).layers},
            # Where products were taken out of recurrent layers, those do more work than they will.
            total=anatomy_of(with_input_shapes(normalized(model), fed)).macs,
            timer=timer,
            total_ms=total_ms,
        )


def _inside_ms(model: ir.Model, feeds: Feeds, total_ms: float, inner: Collection[str]) -> dict[str, float]:
    """Return the time of each layer in the model, by the runtime's profile; of those in a loop that is one turn."""
    try:
        found = layer_times_ms(model, model, feeds, Runtime())
    except (ModelError, NativeError):
        return {}
    scale = max(total_ms / sum(found.values()), 1.0) if found else 1.0
    return {name: scale * time for name, time in found.items() if name not in inner}


def _slower_half(plan: RankPlan) -> list[str]:
    """Return the layers that were predicted to save least, which go first when a model did not get faster."""
    by_cost = sorted(plan.chosen, key=lambda name: plan.chosen[name].cost)
    return by_cost[len(by_cost) // 2 :]
