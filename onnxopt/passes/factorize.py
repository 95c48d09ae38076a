"""Large layers become products of smaller ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import UsageError
from onnxopt.graph.channels import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.factor_edit import replace_by_chain
from onnxopt.graph.layers import anatomy_of
from onnxopt.graph.probe import fed_shapes, probe
from onnxopt.graph.recurrent_split import merge_recurrent, split_recurrent
from onnxopt.measure.latency_table import LatencyTable, cache_folder
from onnxopt.measure.verdict import PROVED, PROVED_HALF, one_sample, prove, time_share
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.reconstruction.batches import rebatched
from onnxopt.reconstruction.chain_timer import timer_of
from onnxopt.reconstruction.factors import FORMS, Form
from onnxopt.reconstruction.layers import LinearLayer, drop_zero_biases, with_biases
from onnxopt.reconstruction.low_rank_fit import Reduced, reduce
from onnxopt.reconstruction.low_rank_plan import Goal, Plan, plan_ranks
from onnxopt.reconstruction.low_rank_seen import Seen, seen_by
from onnxopt.reconstruction.reducible import reducible
from onnxopt.samples import Feeds, Samples

_WIDE_TARGETS = ("x86-vnni", "x86-avx512", "x86-amx")
_ATTEMPTS = 3
_NEAR = 1.01
"""How far over its goal a time may be, as far as times can be told apart."""
_SIZE = 32
"""Of dynamic dimensions behind the first, where there are no samples to tell."""


@dataclass(frozen=True)
class Factorize(Pass):
    """Replace weights by products of smaller ones where that makes a layer cheaper, and keep it only if faster.

    With calibration samples every layer keeps the directions of its outputs that vary most on them, and makes up for
    the errors of the layers before it. At most one of energy, rank_ratio, max_error, macs and latency says how far to
    go; when none does, each layer keeps 95 % of the variance of its outputs, and without samples the singular values
    that stand out of noise. The chains are proved to compute what their products would in place of the weights.

        Conv(3x3, 64 -> 64)   ->   Conv(3x3, 64 -> 16) - Conv(1x1, 16 -> 64)

    Of recurrent layers the product with the inputs is reduced; the recurrence runs inside one node and stays.

    Attributes:
        energy: share of the variance of its outputs that each layer keeps at least.
        rank_ratio: share of its full rank that each layer keeps at most.
        max_error: error that each layer makes at most, relative to the standard deviation of its outputs.
        macs: share of the model's multiply-accumulates that may remain, taken where the outputs change least.
        latency: share of the model's time that may remain, likewise; layers are measured.
        forms: of convolutions: `channel` (k x k, then 1 x 1), `input` (1 x 1, then k x k), `tucker` (k x k between two
            1 x 1) and `spatial` (k x 1, then 1 x k); products have one form.
        round_to: ranks are multiples of it; `auto` is the width of the target's registers.
        data_aware: use calibration samples when there are any.
        sequential: fit each layer on what the model reduced so far gives it.
        measured: predict times by measuring layer shapes on this machine, not by multiply-accumulates; a goal for
            the latency always does.
        cache: keep those times in the user's cache folder.
        verify: measure the whole model, and undo what does not make it faster.
        exclude: names of nodes to leave whole.
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
        """Factorize `model`; says which layers stayed whole and why.

        Raises:
            UsageError: ONX102 `exclude` names something that is not there, ONX109 several goals are given.
            NativeError: ONX403 times are asked for and the processor is emulated.
        """
        goal = self._goal()
        work = normalized(model)
        require_nodes(work, self.exclude)
        recurrent, left = split_recurrent(work, self.exclude)
        samples = rebatched(model, context.calibration) if self.data_aware else None
        biases = with_biases(work) if samples is not None else set[str]()
        layers, refused = reducible(work, self.exclude, observed=samples is not None)
        skipped = [Skip(name, reason) for name, reason in (left | refused).items()]
        if not layers:
            return Applied(model, (), tuple(skipped))
        seen = seen_by(work, list(layers.values()), samples) if samples is not None else {}
        feeds = one_sample(model, context.calibration)
        prepared = self._prepared(model, work, context, samples, feeds)
        plan = prepared(layers, seen, goal)
        for attempt in range(_ATTEMPTS):
            if not plan.chosen:
                break
            reduced, result, difference, reason = self._built(
                work, layers, seen, plan, samples, biases, feeds, recurrent
            )
            if reason:
                skipped += [Skip(name, reason) for name in plan.chosen]
                break
            share, note = time_share(model, result, feeds) if self.verify else (None, "")
            last = attempt == _ATTEMPTS - 1 or bool(plan.missed)
            if share is not None and self.latency is not None and share > self.latency * _NEAR and not last:
                # What the layers' own times do not tell is taken off the next goal.
                goal = replace(goal, latency=max((goal.latency or 1.0) + self.latency - share, 0.01))
                plan = prepared(layers, seen, goal)
                continue
            if share is None or share < 1.0:
                skipped += [Skip(name, reason) for name, reason in plan.refused.items()]
                # A goal that was aimed lower than asked may be missed where the one asked for is reached.
                missed = [plan.missed if self.latency is None or share is None else "", note]
                missed.append(_missed(self.latency, share))
                skipped += [Skip("graph", text) for text in missed if text]
                return Applied(result, _edits(plan, reduced, share), tuple(skipped), difference)
            slow = _slower_half(plan)
            skipped += [Skip(name, f"undone: with it the model took {share:.2f} of the time") for name in slow]
            for name in slow:
                plan.chosen.pop(name)
        skipped += [Skip(name, reason) for name, reason in plan.refused.items()]
        return Applied(model, (), (*skipped, *([Skip("graph", plan.missed)] if plan.missed else [])))

    def _goal(self) -> Goal:
        numbers = {name: getattr(self, name) for name in ("energy", "rank_ratio", "max_error", "macs", "latency")}
        given = [name for name, number in numbers.items() if number is not None]
        if len(given) > 1:
            raise UsageError(
                "ONX109",
                "options of pass factorize contradict each other",
                where=", ".join(given),
                why="each says how far to go",
                hint="Give one of them.",
            )
        return Goal(**numbers)

    def _prepared(
        self, model: ir.Model, work: ir.Model, context: Context, samples: Samples | None, feeds: Feeds
    ) -> Callable[[Mapping[str, LinearLayer], Mapping[str, Seen], Goal], Plan]:
        """Return what makes a plan for a goal; the model and its layers are measured once."""
        fed = {name: array.shape for name, array in feeds.items()} or fed_shapes(work, 1, _SIZE)
        anatomy = anatomy_of(with_input_shapes(work, fed))
        timer, total_ms = None, 0.0
        if self.measured or self.latency is not None:
            table = LatencyTable(cache_folder() if self.cache else None)
            timer = timer_of(work, probe(work, fed).shapes, table)
            total_ms = table.once_ms(model, feeds)
        block = self.round_to if self.round_to != "auto" else 16 if context.target.name in _WIDE_TARGETS else 8
        return partial(
            plan_ranks,
            work,
            forms=self.forms,
            block=block,
            samples=samples,
            macs={layer.name: layer.macs for layer in anatomy.layers},
            # Where products were taken out of recurrent layers, those do more work than they will.
            total=anatomy_of(with_input_shapes(normalized(model), fed)).macs,
            timer=timer,
            total_ms=total_ms,
        )

    def _built(
        self,
        work: ir.Model,
        layers: Mapping[str, LinearLayer],
        seen: Mapping[str, Seen],
        plan: Plan,
        samples: Samples | None,
        biases: set[str],
        feeds: Feeds,
        recurrent: tuple[str, ...],
    ) -> tuple[Reduced, ir.Model, float, str]:
        """Return the layers as they are reduced, the model with their chains, and what proves it or speaks against."""
        choices = {name: candidate.choice for name, candidate in plan.chosen.items()}
        reduced = reduce(work, layers, choices, seen, samples, sequential=self.sequential)
        result = reduced.model.clone()
        for name, factors in reduced.factors.items():
            replace_by_chain(result, name, [(stage.weight, stage.axes) for stage in factors.stages])
        drop_zero_biases(result, biases)
        merge_recurrent(result, recurrent)
        kinds = {work.graph.initializers[layers[name].weight].dtype for name in choices}
        limit = PROVED_HALF if ir.DataType.FLOAT16 in kinds else PROVED
        return reduced, result, *prove(reduced.model, result, feeds, limit)


def _missed(goal: float | None, share: float | None) -> str:
    if goal is None or share is None or share <= goal * _NEAR:
        return ""
    return f"{goal:.0%} of the time was not reached: {share:.0%} was measured"


def _slower_half(plan: Plan) -> list[str]:
    """Return the layers that were predicted to save least, which go first when a model did not get faster."""
    by_cost = sorted(plan.chosen, key=lambda name: plan.chosen[name].cost)
    return by_cost[len(by_cost) // 2 :]


def _edits(plan: Plan, reduced: Reduced, share: float | None) -> tuple[Edit, ...]:
    edits = []
    for name in reduced.factors:
        candidate = plan.chosen[name]
        ranks = "x".join(map(str, candidate.choice.ranks))
        what = f"{candidate.choice.form} form, rank {ranks}: {candidate.macs:.0%} of its multiply-accumulates"
        edits.append(Edit(name, f"{what}, {candidate.error:.1%} of its variance lost"))
    if share is not None and plan.time_share is not None:
        edits.append(Edit("graph", f"predicted to take {plan.time_share:.0%} of the time, measured {share:.0%}"))
    elif share is not None:
        edits.append(Edit("graph", "measured to be faster than the original"))
    elif plan.time_share is not None:
        edits.append(Edit("graph", f"predicted to take {plan.time_share:.0%} of the time"))
    return tuple(edits)
