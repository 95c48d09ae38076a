"""Bits per matrix: cost and loss of products and tables in float, in dynamic INT8, and with few bits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.graph.edit import name_nodes
from onnxopt.options.search import Goal
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.weight_products import DOMAIN
from onnxopt.samples import Feeds
from onnxopt.search.losses import Base, Losses
from onnxopt.search.mix.alike import Kinds, evened, kinds_of
from onnxopt.search.mix.bases import BASE, Clock, fastest_base
from onnxopt.search.mix.cost_tables import CostTables, MatrixForm
from onnxopt.search.mix.float_layers import losses_in_time
from onnxopt.search.mix.layer_times import LayerTimes, TimedForm
from onnxopt.solver import FLOAT, LayerOptions, Problem

WHAT = "tables of bits"
FORMS: Mapping[str, MatrixForm] = MappingProxyType(
    {
        "2 bits": QuantizeWeights(bits=2, block=64, method="k-quant", tables=True, samples=16),
        "4 bits": QuantizeWeights(bits=4, method="hqq", tables=True),
        "4 bits, large blocks": QuantizeWeights(bits=4, block=128, method="hqq", tables=True),
        "8 bits": QuantizeWeights(bits=8, method="hqq", tables=True),
        "dynamic INT8": QuantizeDynamic(),
        "dynamic INT8, one scale": QuantizeDynamic(per_channel=False),
    }
)
"""Forms of a matrix beside float, each by the pass that makes it, in the order in which the passes run."""
_FOR_SIZE = frozenset({"2 bits"})
"""Forms that were measured to be no faster than another with less loss."""
_INT8 = 0.25
"""Share of the bytes of float that a matrix takes in INT8."""
_LEAST_BYTES = 1_000_000

WeightedFeeds = Sequence[tuple[Feeds, float]]
"""Inputs at the lengths that matter, each with its number of runs: of a decoder one prompt and many single tokens."""
Costs = Mapping[str, Mapping[str, float]]
"""Cost by form and layer."""


def has_matrices(model: ir.Model) -> bool:
    """Return whether products with constant matrices read so many bytes that the form of each may matter."""
    weights = (
        node.inputs[1].const_value
        for node in model.graph
        if node.op_type in ("MatMul", "Gemm") and not node.domain and node.inputs[1] is not None
    )
    sizes = [weight.nbytes for weight in weights if weight is not None and len(weight.shape) == 2]
    return len(sizes) > 1 and sum(sizes) >= _LEAST_BYTES


@dataclass(frozen=True)
class _Made:
    """A model in every form.

    Attributes:
        model: the baseline.
        base: the same behind the passes before the choice, with names for all nodes.
        forms: the model with all layers in one form, that it can take, by form.
        takes: the names of these layers, in graph order.
    """

    model: ir.Model
    base: ir.Model
    forms: Mapping[str, ir.Model]
    takes: Mapping[str, tuple[str, ...]]

    @property
    def layers(self) -> list[str]:
        """Layers with a choice, in graph order."""
        some = {name for names in self.takes.values() for name in names}
        return [node.name for node in self.base.graph if node.name in some]


def bit_tables(
    model: ir.Model,
    context: Context,
    inputs: WeightedFeeds,
    *,
    goal: Goal,
    times: LayerTimes,
    clock: Clock,
    losses: Losses,
    seconds: float,
    fuse: bool = True,
) -> CostTables:
    """Measure the tables from which the form of each matrix is chosen.

    Args:
        model: the baseline (not modified).
        context: context of the passes; receives progress.
        inputs: one batch for each length.
        goal: the kind of cost.
        times: divides the time of a model among its layers.
        clock: times the model with all layers in one form: in repeated runs weights stay in caches, and larger ones
            take less time than when a program calls them.
        losses: measures output losses of passes.
        seconds: time for the losses of one form; with more matrices than that allows, neighbours are measured together.
        fuse: whether each attention may become one node first, where that is faster.

    Raises:
        ModelError, NativeError: the model cannot be built or run.
    """
    tell = partial(context.progress, WHAT)
    tell(0, len(FORMS) + 1)
    fused = fuse and goal is Goal.LATENCY
    base = fastest_base(model, context, [runs for _, runs in inputs], clock) if fused else BASE
    made = _made(model, context, base, [form for form in FORMS if goal is Goal.SIZE or form not in _FOR_SIZE])
    costs, fixed, original = _bytes(made) if goal is Goal.SIZE else _milliseconds(made, inputs, times, clock)
    lost = dict[str, dict[str, float]]()
    for number, (form, some) in enumerate(made.takes.items(), 1):
        tell(number, len(FORMS) + 1)
        lost[form] = losses_in_time(some, partial(_of_sets, FORMS[form], some, losses), seconds)
    tell(len(FORMS) + 1, len(FORMS) + 1)
    layers = dict[str, LayerOptions]()
    for name in made.layers:
        forms = [form for form, some in made.takes.items() if name in some]
        layers[name] = LayerOptions(
            (),
            {form: np.array(costs[form][name]) for form in (FLOAT, *forms)},
            {FLOAT: 0.0, **{form: lost[form][name] for form in forms}},
        )
    forms_of = {form: FORMS[form] for form in made.takes}
    return CostTables(Problem({}, layers, fixed=fixed), original, {}, {}, (), None, forms_of, base)


def named_base(model: ir.Model, context: Context, passes: Base = BASE) -> ir.Model:
    """Return a model behind the passes before the choice; each node has the name that tables use."""
    base = Pipeline(passes).run(model, context).model.clone()
    # Those that passes give to nameless nodes.
    name_nodes(base)
    return base


def _made(model: ir.Model, context: Context, passes: Base, wanted: Sequence[str]) -> _Made:
    base = named_base(model, context, passes)
    order = [node.name or "" for node in base.graph]
    forms, takes = dict[str, ir.Model](), dict[str, tuple[str, ...]]()
    for form in wanted:
        done = Pipeline((FORMS[form],)).run(base, context)
        taken = {edit.target for edit in done.steps[0].edits}
        # What lies inside control flow is one layer.
        if taken:
            forms[form], takes[form] = done.model, tuple(name for name in order if name in taken)
    return _Made(model, base, forms, takes)


def _of_sets(spec: MatrixForm, taken: Sequence[str], losses: Losses, sets: Sequence[Sequence[str]]) -> list[float]:
    """Return the loss of each set of layers in one form, with all others in float.

    Fused attention computes the same, and layers keep their names: losses are those of the simplified graph.
    """
    return losses(BASE, [replace(spec, exclude=tuple(name for name in taken if name not in some)) for some in sets])


def _bytes(made: _Made) -> tuple[Costs, float, float]:
    """Return the bytes of each layer in each form, those of the rest, and those of the baseline."""
    floats, alone = dict[str, float](), dict[str, float]()
    for node in made.base.graph:
        weights = [v for v in node.inputs if v is not None and v.const_value is not None]
        # A table that is the last product's matrix too is half of each; in INT8 each has its own.
        floats[node.name or ""] = sum(v.const_value.nbytes / len(v.uses()) for v in weights if v.const_value)
        alone[node.name or ""] = sum(float(v.const_value.nbytes) for v in weights if v.const_value)
    costs = {FLOAT: {name: floats[name] for name in made.layers}}
    for form, some in made.takes.items():
        stored = {node.name: _stored(node) for node in made.forms[form].graph if node.domain == DOMAIN}
        costs[form] = {name: stored.get(name, _INT8 * alone[name]) for name in some}
    rest = max(model_file.size_bytes(made.base) - sum(costs[FLOAT].values()), 0.0)
    return costs, rest, float(model_file.size_bytes(made.model))


def _stored(node: ir.Node) -> float:
    """Return the bytes of a product's or table's integers and scales; what it shares with others counts in part."""
    values = [value for value in node.inputs if value is not None]
    # A table that shares the integers of a product has them behind a Reshape.
    before = [
        producer.inputs[0] for value in values if (producer := value.producer()) and producer.op_type == "Reshape"
    ]
    weights = [value for value in (*values, *before) if value is not None and value.const_value is not None]
    return sum(value.const_value.nbytes / len(value.uses()) for value in weights if value.const_value is not None)


def _milliseconds(made: _Made, inputs: WeightedFeeds, times: LayerTimes, clock: Clock) -> tuple[Costs, float, float]:
    """Return the time of each layer in each form, that of the rest, and that of the baseline."""
    costs, fixed, original = defaultdict[str, dict[str, float]](dict), 0.0, 0.0
    models, owners = {FLOAT: made.base, **made.forms}, _owners(made)
    called = clock(models)
    for (feeds, runs), wholes in zip(inputs, called, strict=True):
        found = times.of([TimedForm(made.base, one) for one in models.values()], feeds, conversions=True)
        kinds = kinds_of(made.base, owners, feeds)
        owned = {form: _owned(each, owners, kinds, wholes[form]) for form, each in zip(models, found, strict=True)}
        original += runs * wholes[FLOAT]
        fixed += runs * sum(ms for name, ms in owned[FLOAT].items() if name not in made.layers)
        for form, some in {FLOAT: made.layers, **made.takes}.items():
            # Work of a form that no layer owns, such as conversions that the profile cannot place.
            before, after = (sum(ms for name, ms in owned[each].items() if name not in some) for each in (FLOAT, form))
            for name in some:
                more = owned[form].get(name, 0.0) + (after - before) / len(some)
                costs[form][name] = costs[form].get(name, 0.0) + runs * more
    return costs, fixed, original


def _owners(made: _Made) -> dict[str, str]:
    """Return the layer of each node behind one: the last layer before it.

    The form of a layer decides into which kernels the runtime fuses the work behind it: a bias becomes part of an
    integer product, and of a float one part of the normalization behind it, which takes several times as long there.
    """
    layers, owners = {name: place for place, name in enumerate(made.layers)}, dict[str, str]()
    for node in made.base.graph:
        name = node.name or ""
        producers = [value.producer() for value in node.inputs if value is not None]
        before = [owners[one.name or ""] for one in producers if one is not None and (one.name or "") in owners]
        if name in layers:
            owners[name] = name
        elif before:
            owners[name] = max(before, key=lambda layer: layers[layer])
    return owners


def _owned(times: Mapping[str, float], owners: Mapping[str, str], kinds: Kinds, whole_ms: float) -> dict[str, float]:
    """Return the times of layers with what they own, scaled to the time of the whole model."""
    sums = defaultdict[str, float](float)
    for name, ms in times.items():
        sums[owners.get(name, name)] += ms
    found = evened(sums, kinds)
    total = sum(found.values())
    return {name: ms * whole_ms / total for name, ms in found.items()}
