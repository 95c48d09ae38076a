"""Forms of a model for the costs of its layers: narrower, in float and INT8, factorized."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import ModelError, NativeError
from onnxopt.passes.factorize import Factorize
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Observations, Pass, Pipeline
from onnxopt.pruning.survey import Survey
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.search.candidates import Quantizer
from onnxopt.search.mix.layer_times import TimedForm, Times, layer_of

SIMPLE: tuple[Pass, ...] = (Simplify(fuse=False),)
"""Passes that build the model for pruning and factorization."""
FUSED: tuple[Pass, ...] = (Simplify(),)
"""Passes that build the model for quantization from it."""
SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
"""Removed shares of each group to try; shares with the same count are one level."""
RANKS = (0.5, 0.25)
"""Shares of the full rank to try."""
_SAMPLES = 4
_BYTES = 4
"""Bytes of a float weight per INT8 byte."""


@dataclass(frozen=True)
class LayerForms:
    """The forms of a model for the times of layers.

    Attributes:
        base: the simplified model in float, whose nodes name the layers.
        quantized: names of the layers that the quantizer converts.
        widths: forms by removed share, in float and, with a quantizer, in INT8.
        ranks: forms by remaining share of the full rank, in INT8 with a quantizer.
    """

    base: ir.Model
    quantized: frozenset[str]
    widths: Mapping[float, tuple[TimedForm, TimedForm | None]]
    ranks: Mapping[float, TimedForm]

    def all(self) -> list[TimedForm]:
        """Return every form."""
        both = [form for pair in self.widths.values() for form in pair if form is not None]
        return [*both, *self.ranks.values()]


def layer_forms(simple: ir.Model, found: Survey, quantizer: Quantizer | None, context: Context) -> LayerForms:
    """Build the forms; forms that fail are left out.

    Args:
        simple: the simplified model.
        found: channel groups.
        quantizer: quantization pass of the mix; None for no quantization.
        context: context with calibration samples.
    """
    base = _run(simple, context, Simplify())
    quantized = frozenset[str]()
    if quantizer is not None:
        names = {node.name for node in base.graph}
        edits = Pipeline((quantizer,)).run(base, context).steps[0].edits
        quantized = frozenset(edit.target for edit in edits if edit.target in names)
    kind = quantizer if quantized else None
    widths = {0.0: (TimedForm(base, base), _integer(base, kind, context))}
    before = dict[str, int]()
    for share in SHARES:
        kept = {name: len(units) for name, units in found.kept(share).items()}
        if kept == before:
            continue
        before = kept
        try:
            model = _run(found.cut(share), context, Simplify())
            widths[share] = TimedForm(model, model), _integer(model, kind, context)
        except (ModelError, NativeError):
            continue
    return LayerForms(base, quantized, widths, dict(_ranks(simple, kind, context)))


def _ranks(simple: ir.Model, quantizer: Quantizer | None, context: Context) -> list[tuple[float, TimedForm]]:
    made = []
    for ratio in RANKS:
        try:
            done = Pipeline((low_rank_at(ratio),)).run(simple, context)
            if done.steps[0].edits:
                model = _run(done.model, context, Simplify())
                made.append((ratio, _integer(model, quantizer, context) or TimedForm(model, model)))
        except (ModelError, NativeError):
            continue
    return made


def low_rank_at(ratio: float, exclude: tuple[str, ...] = ()) -> Factorize:
    """Return the pass that reduces layers to a share of their full rank, even if the model is not faster."""
    return Factorize(rank_ratio=ratio, exclude=exclude, verify=False)


def _integer(model: ir.Model, quantizer: Quantizer | None, context: Context) -> TimedForm | None:
    """Return an INT8 form for timing, which does not depend on the ranges of activations."""
    if quantizer is None or context.calibration is None:
        return None
    few = replace(
        context, calibration=context.calibration.take(min(_SAMPLES, len(context.calibration))), cache=Observations()
    )
    plain = quantizer
    if isinstance(plain, QuantizeStatic):
        plain = replace(plain, method="minmax", placement="all", min_sqnr_db=0, correct_bias=False)
    done = Pipeline((replace(plain, exclude=()),)).run(model, few)
    return TimedForm(model, done.model) if done.steps[0].edits else None


def _run(model: ir.Model, context: Context, *passes: Pass) -> ir.Model:
    return Pipeline(passes).run(model, context).model


def layer_bytes(form: TimedForm, quantized: frozenset[str]) -> Times:
    """Return the bytes of each layer's weights; the rest of the file has the name ""."""
    found, integer = defaultdict[str, float](float), form.made is not form.model
    for node in form.model.graph:
        name = layer_of(node.name or "")
        weights = [v.const_value.nbytes for v in node.inputs if v is not None and v.const_value is not None]
        small = integer and name in quantized and node.op_type in WEIGHTED
        found[name] += sum(weights) / (_BYTES if small else 1)
    found[""] = max(model_file.size_bytes(form.made) - sum(found.values()), 0.0)
    return dict(found)
