"""Cost (time or bytes) and loss of every layer at every level: the tables for mixes of techniques."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import inf, isfinite, prod

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.find import Channels
from onnxopt.graph.edit import name_nodes
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.search import Goal, Protect
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.pruning.survey import Survey, survey
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.quantization.placement.edges import edges_of, heads_of
from onnxopt.samples import Feeds
from onnxopt.search.candidates import Quantizer
from onnxopt.search.losses import Losses, MeasuredLosses
from onnxopt.search.mix.forms import FUSED, SIMPLE, LayerForms, layer_bytes, layer_forms, low_rank_at
from onnxopt.search.mix.layer_times import LayerTimes, TimedForm, Times
from onnxopt.search.mix.screening import screened
from onnxopt.solver import FLOAT, Group, LayerOptions, Problem

INT8 = "INT8"
WHAT = "tables of time and loss"
_WORTH = 0.9
"""Largest predicted share of its time at which a layer is factorized."""
_STEPS = 5

Counts = Mapping[str, Sequence[int]]
"""Remaining units, by group and level."""
MatrixForm = Quantizer | QuantizeWeights
"""A pass that changes the matrices of products and can leave some of them alone."""


@dataclass(frozen=True)
class CostTables:
    """The tables from which a mix is chosen.

    Attributes:
        problem: costs in milliseconds, or in bytes if size is the goal.
        original: cost of the baseline.
        shares: removed share of each group, by level.
        ranks: share of the full rank by mode.
        weighted: names of the layers that `Factorize` supports.
        quantizer: quantization pass of the mix; None for no quantization.
        forms: passes by mode, where the mix is one of forms of matrices alone; see `bits`.
        base: passes before those forms.
    """

    problem: Problem
    original: float
    shares: Mapping[str, tuple[float, ...]]
    ranks: Mapping[str, float]
    weighted: tuple[str, ...]
    quantizer: Quantizer | None
    forms: Mapping[str, MatrixForm] = field(default_factory=dict)
    base: tuple[Pass, ...] = (Simplify(),)


def tables_of(
    model: ir.Model,
    context: Context,
    feeds: Feeds,
    runtime: Runtime,
    *,
    goal: Goal,
    quantizer: Quantizer | None,
    times: LayerTimes,
    protect: tuple[Protect, ...] = (),
    losses: Losses | None = None,
) -> CostTables:
    """Measure the tables from which a mix is chosen.

    Args:
        model: the baseline (not modified).
        context: context with calibration samples; receives progress.
        feeds: one batch for timing.
        runtime: configuration of ONNX Runtime.
        goal: the kind of cost.
        quantizer: quantization pass of the mix; None for no quantization.
        times: cache of layer times.
        protect: channel groups that are not pruned because of their place.
        losses: measures output losses of passes; None measures here.

    Raises:
        ModelError, NativeError: the model cannot be built or run.
    """
    tell = partial(context.progress, WHAT)
    tell(0, _STEPS)
    # Tables use the names that passes give to nameless nodes.
    model = model.clone()
    name_nodes(model)
    simple = Pipeline(SIMPLE).run(model, context).model
    found = survey(simple, context, protect)
    tell(1, _STEPS)
    forms = layer_forms(simple, found, quantizer, context)
    tell(2, _STEPS)
    everything = [TimedForm(model, model), *forms.all()]
    if goal is Goal.SIZE:
        costs = [layer_bytes(form, forms.quantized) for form in everything]
    else:
        costs = times.of(everything, feeds)
    costed = dict(zip(map(id, everything), costs, strict=True))
    tell(3, _STEPS)
    losses = losses or MeasuredLosses(model, context)
    in_int8 = _int8_losses(forms, quantizer, losses)
    tell(4, _STEPS)
    counts, shares = _levels(found, list(forms.widths))
    table = _FormCosts(found, forms, costed, counts, shares)
    layers, fixed, rest = table.layers(in_int8, _factor_losses(simple, forms, table, losses))
    groups = {
        name: Group(tuple(found.loss(name, count) for count in some), rest[name]) for name, some in counts.items()
    }
    integer = frozenset({INT8, *map(rank_mode, forms.ranks)}) if forms.quantized else frozenset[str]()
    static = isinstance(quantizer, QuantizeStatic) and goal is Goal.LATENCY
    edges = edges_of(forms.base, heads_of(forms.base, forms.quantized), feeds, runtime) if static else ()
    tell(5, _STEPS)
    return CostTables(
        Problem(groups, layers, edges, integer, fixed),
        sum(costs[0].values()),
        shares,
        {rank_mode(ratio): ratio for ratio in forms.ranks},
        _weighted(simple),
        quantizer if forms.quantized else None,
    )


def rank_mode(ratio: float) -> str:
    """Return the name of the mode in which a layer keeps that share of its rank."""
    return f"rank {ratio:.0%}"


def _weighted(model: ir.Model) -> tuple[str, ...]:
    return tuple(n.name or "" for n in model.graph if n.op_type in WEIGHTED)


def _levels(found: Survey, shares: Sequence[float]) -> tuple[dict[str, list[int]], dict[str, tuple[float, ...]]]:
    """Return the possible counts of remaining units by group, falling, and the shares that lead to them."""
    known = {source: group.name for group in found.channels.groups for source in group.sources}
    counts, taken = dict[str, list[int]](), dict[str, list[float]]()
    for group in found.choices.groups:
        # Options of passes refer to a group by its node.
        if known.get(group.name) == group.name:
            counts[group.name], taken[group.name] = [group.size], [0.0]
    for share in shares[1:]:
        for name, units in found.kept(share).items():
            if name in counts and len(units) < counts[name][-1]:
                counts[name].append(len(units))
                taken[name].append(share)
    some = {name: tuple(shares) for name, shares in taken.items() if len(shares) > 1}
    return {name: counts[name] for name in some}, some


def _int8_losses(forms: LayerForms, quantizer: Quantizer | None, losses: Losses) -> dict[str, float]:
    """Return the output loss of each layer in INT8."""
    if quantizer is None or not forms.quantized:
        return {}
    plain = replace(quantizer, exclude=())
    if isinstance(plain, QuantizeStatic):
        plain = replace(plain, placement="all", min_sqnr_db=0)
    names = [name for name in _weighted(forms.base) if name in forms.quantized]

    def of_sets(sets: Sequence[Sequence[str]]) -> list[float]:
        return losses(SIMPLE + FUSED, [replace(plain, exclude=tuple(sorted(forms.quantized - set(s)))) for s in sets])

    return screened(names, of_sets)


def _factor_losses(
    simple: ir.Model, forms: LayerForms, table: "_FormCosts", losses: Losses
) -> dict[tuple[float, str], float]:
    """Return the output loss of chains by share of the rank and layer, for layers that become faster."""
    names = _weighted(simple)
    worth = [
        (ratio, name)
        for ratio, name in product(forms.ranks, names)
        if table.chain_cost(ratio, name) < _WORTH * table.whole_cost(name)
    ]
    found = losses(SIMPLE, [low_rank_at(ratio, tuple(n for n in names if n != name)) for ratio, name in worth])
    return dict(zip(worth, found, strict=True))


@dataclass
class _FormCosts:
    """The costs of forms, by layer and level."""

    found: Survey
    forms: LayerForms
    costed: Mapping[int, Times]
    counts: Counts
    shares: Mapping[str, tuple[float, ...]]

    def cost(self, form: TimedForm | None, name: str) -> float:
        return self.costed[id(form)].get(name, 0.0) if form is not None else inf

    def whole_cost(self, name: str) -> float:
        return min(self.cost(form, name) for form in self.forms.widths[0.0])

    def chain_cost(self, ratio: float, name: str) -> float:
        return self.cost(self.forms.ranks[ratio], name)

    def layers(
        self, in_int8: Mapping[str, float], chained: Mapping[tuple[float, str], float]
    ) -> tuple[dict[str, LayerOptions], float, dict[str, tuple[float, ...]]]:
        """Return the layers, the constant cost, and the cost shared among groups by level."""
        members = _node_groups(self.found.channels, self.counts)
        known = {node.name or "" for node in self.forms.base.graph}
        mine = {n: g for n, g in members.items() if n in known and len(g) <= 2}
        made = {name: self._layer(name, groups, in_int8, chained) for name, groups in mine.items()}
        rest = {
            share: sum(cost for name, cost in self.costed[id(form)].items() if name not in mine)
            for share, (form, _) in self.forms.widths.items()
        }
        each = max(len(self.counts), 1)
        shared = {n: tuple((rest[s] - rest[0.0]) / each for s in shares) for n, shares in self.shares.items()}
        return made, rest[0.0], shared

    def _layer(
        self,
        name: str,
        groups: tuple[str, ...],
        in_int8: Mapping[str, float],
        chained: Mapping[tuple[float, str], float],
    ) -> LayerOptions:
        costs, losses = {FLOAT: self._curve(name, groups, 0)}, {FLOAT: 0.0}
        lost = in_int8.get(name, 0.0)
        if name in self.forms.quantized and isfinite(lost):
            costs[INT8], losses[INT8] = self._curve(name, groups, 1), lost
        for (ratio, layer), more in chained.items():
            if layer == name and isfinite(more):
                # The effect of rank on a narrower layer was not measured.
                only = np.full([len(self.counts[g]) for g in groups], inf)
                only[(0,) * len(groups)] = self.chain_cost(ratio, name)
                mode = rank_mode(ratio)
                costs[mode], losses[mode] = only, more + losses.get(INT8, 0.0)
        return LayerOptions(groups, costs, losses)

    def _curve(self, name: str, groups: tuple[str, ...], kind: int) -> np.ndarray:
        """Return the cost at every level, interpolated between the forms by the layer's remaining share of work."""
        sizes = {group: self.counts[group][0] for group in groups}
        points = dict[float, float]()
        for share, pair in self.forms.widths.items():
            kept = self.found.kept(share) if share else {}
            left = prod(len(kept[g]) / sizes[g] if g in kept else 1.0 for g in groups)
            if pair[kind] is not None:
                points.setdefault(left, self.cost(pair[kind], name))
        places = sorted(points)
        shape = [len(self.counts[group]) for group in groups]
        costs = np.empty(shape)
        for place in np.ndindex(*shape):
            left = prod(self.counts[g][level] / sizes[g] for g, level in zip(groups, place, strict=True))
            costs[place] = np.interp(left, places, [points[p] for p in places])
        return costs


def _node_groups(channels: Channels, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the groups among `names` with channels on an axis of a node's inputs or outputs, by node."""
    owner = {
        root: group.name
        for group, roots in zip(channels.groups, channels.roots, strict=True)
        for root in roots
        if group.name in names
    }
    trace, found = channels.trace, dict[str, tuple[str, ...]]()
    for node in channels.model.graph:
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        vectors = [axis for v in values for axis in trace.axes.get(v.name or "", ()) if axis is not None]
        roots = {int(root) for vector in vectors for root in np.unique(trace.labels.roots(vector))}
        found[node.name or ""] = tuple(sorted({owner[root] for root in roots if root in owner}))
    return found
