"""INT8 weights and activations, with activation ranges found on calibration samples."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt import model_file
from onnxopt.errors import ModelError, NativeError, UsageError, nearest
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import freeze_weights, lift_constants, name_nodes
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip
from onnxopt.quantization import bias_correction, calibrators, ort_bridge, ranges
from onnxopt.quantization.data_quality import findings, require_variety
from onnxopt.quantization.histogram import Extremes, Histogram, Range
from onnxopt.quantization.kernels import proved
from onnxopt.quantization.measured_placement import Placed, place, unmeasurable
from onnxopt.quantization.outcome import WEIGHTED, Outcome, read_back
from onnxopt.quantization.qdq_rounding import compensate
from onnxopt.samples import Samples

_CORRECTED_ON = 48
"""Most samples for means of outputs: every layer is a sweep of its own."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Static quantization by ONNX Runtime's quantizer, with ranges calibrated in bounded memory.

    Attributes:
        method: how the range of an activation follows from its histogram.
        percentile: share of values covered by `method=percentile`, in percent.
        format: `qdq` (QuantizeLinear/DequantizeLinear pairs, fused when the model is loaded) or `qoperator`.
        per_channel: one scale per output channel of a weight.
        activation_type: of activations; `auto` follows the target.
        weight_type: of weights; `auto` follows the target.
        reduce_range: `yes` for 7-bit weights; `auto` lessens the precision of just those channels of weights, and just
            as far, whose products could saturate on a processor the result is for.
        op_types: op types to quantize; empty for all the quantizer knows.
        exclude: names of nodes to leave in float.
        wide: names of nodes whose activations get 16 bits, with `format=qdq`: for accuracy where the file must be all
            integers. The runtime's CPU kernels have no 16-bit activations and compute these layers in float, slower.
        correct_bias: take the mean error of each layer's output on the calibration samples off its bias, in graph
            order; with `format=qdq`.
        rounding: of weights: `nearest`, or `gptq`, where what one input's weights lose is taken over by those of the
            next, as goes best with what the layer reads; with `format=qdq`. Convolutions in groups stay at `nearest`.
        placement: `all` layers in INT8 that can be, or where `measured` on this machine with one thread to be
            fastest, conversions between both included; never slower than float then.
        least_db: with `placement=measured`, the signal-to-noise ratio that is asked of the outputs, in dB; layers that
            harm most for what they save stay in float. 0 for any.
        samples: most calibration samples to use.
    """

    name: ClassVar[str] = "quantize-static"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    method: Literal[
        "minmax",
        "moving-average",
        "percentile",
        "entropy",
        "symmetric-entropy",
        "jensen-shannon",
        "entropy-stock",
        "mse",
    ] = "minmax"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    format: Literal["qdq", "qoperator"] = "qdq"
    per_channel: bool = True
    activation_type: Literal["auto", "int8", "uint8"] = "auto"
    weight_type: Literal["auto", "int8", "uint8"] = "auto"
    reduce_range: Literal["auto", "yes", "no"] = "auto"
    op_types: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    correct_bias: bool = False
    rounding: Literal["nearest", "gptq"] = "nearest"
    placement: Literal["all", "measured"] = "all"
    least_db: Annotated[float, Field(ge=0, le=100)] = 0
    samples: Annotated[int, Field(ge=1)] = 128

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Quantize `model`; says which layers stayed in float and why.

        Raises:
            UsageError: ONX102 `exclude`, `wide` or `op_types` names something that is not there, ONX109 `least_db`
                without `placement=measured`, `wide` or `rounding` without `format=qdq`.
            DataError: ONX205 no input varies over the calibration samples, ONX207 they give NaN or infinities.
        """
        if self.least_db and self.placement != "measured":
            raise UsageError("ONX109", "this option is for placement=measured", where="least_db", hint="Leave it out.")
        for option, asked in (("wide", bool(self.wide)), ("rounding", self.rounding != "nearest")):
            if asked and self.format != "qdq":
                raise UsageError("ONX109", "this option is for format=qdq", where=option, hint="Leave it out.")
        known = ort_bridge.static_op_types()
        for op_type in self.op_types:
            if op_type not in known:
                raise UsageError("ONX102", "no such quantizable op type", where=op_type, hint=nearest(op_type, known))
        op_types = self.op_types or known
        if not model_file.fits_protobuf(model):
            return Applied(model, (), (Skip("graph", "ONNX Runtime's quantizer takes no weights above 1.5 GB"),))
        named = model.clone()
        freeze_weights(named)
        lift_constants(named)
        name_nodes(named)
        require_nodes(named, (*self.exclude, *self.wide))
        try:
            # Standard conversions know 16 bits from opset 21 on.
            before = model_file.upgrade_opset(named, 21 if self.wide else 13)
        except ModelError as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        assert context.calibration is not None
        if self.correct_bias and self.format == "qdq":
            bias_correction.give_biases(before, [n.name or "" for n in before.graph if n.name not in self.exclude])
        # One sample at a time: every activation of a batch is alive at once, and ranges do not depend on the batch.
        samples = context.calibration.take(self.samples).with_batch_size(1)
        found, lacks = self._ranges(before, op_types, samples, context)
        hints = {op: "not among the op types chosen" for op in WEIGHTED if op not in op_types}
        hints |= {"GRU": "the runtime has no INT8 GRU", "LSTM": "the runtime has no static INT8 LSTM"}

        def build(more: tuple[str, ...] = ()) -> ir.Model:
            options = self._options(op_types, context)
            return ort_bridge.quantize_static(before, found, replace(options, exclude=(*options.exclude, *more)))

        notes = [Skip("calibration", finding) for finding in lacks]
        try:
            after = build()
            outcome = proved(read_back(before, after, self.exclude, hints), before, after)
            if self.placement == "measured" and outcome.quantized:
                why = unmeasurable(context.target)
                notes += [Skip("graph", why)] if why else []
                placed = Placed() if why else self._place(before, after, outcome, build, samples, context)
                if placed.reasons:
                    after = build(placed.exclude)
                    outcome = proved(read_back(before, after, (*self.exclude, *placed.exclude), hints), before, after)
                    left = {n: r for n, r in outcome.left.items() if n not in placed.reasons}
                    outcome = Outcome(outcome.quantized, left | dict(placed.reasons))
        except (NativeError, ModelError) as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        outcome = _widened(outcome, before, self.wide)
        edits = [Edit(name, action) for name, action in outcome.quantized.items()]
        skips = [*notes, *(Skip(name, reason) for name, reason in outcome.left.items())]
        if self.rounding == "gptq" and edits:
            # Before biases, which then make up for the shift that is left.
            avoid = self._options(op_types, context).avoid_saturation
            rounded = compensate(after, before, samples, avoid_saturation=avoid)
            edits += [Edit(n, f"rounded anew: {e:.0%} of the error of its outputs") for n, e in rounded.errors.items()]
            skips += [Skip(n, f"its weights are rounded to nearest: {why}") for n, why in rounded.left.items()]
        if self.correct_bias and self.format != "qdq":
            skips.append(Skip("graph", "biases are corrected with format=qdq only"))
        elif self.correct_bias and edits:
            corrected = bias_correction.correct(after, before, samples.take(min(_CORRECTED_ON, len(samples))))
            edits += [Edit(n, f"bias corrected by up to {100 * d:.2g} % of its output") for n, d in corrected.items()]
        return Applied(after if edits else model, tuple(edits), tuple(skips))

    def _place(
        self,
        before: ir.Model,
        after: ir.Model,
        outcome: Outcome,
        build: Callable[[tuple[str, ...]], ir.Model],
        samples: Samples,
        context: Context,
    ) -> Placed:
        # Measured once: the same search must not come to two placements of one model.
        key = f"placement {self} " + hashlib.sha256(model_file.to_bytes(after)).hexdigest()
        if key not in context.cache:
            least_db = self.least_db or float("-inf")
            context.cache[key] = place(before, after, list(outcome.quantized), build, samples, least_db)
        placed: Placed = context.cache[key]
        return placed

    def _options(self, op_types: tuple[str, ...], context: Context) -> ort_bridge.StaticOptions:
        target = context.target
        weight_type = target.weight_type if self.weight_type == "auto" else self.weight_type
        saturates = self.reduce_range == "auto" and target.reduce_range
        return ort_bridge.StaticOptions(
            format=self.format,
            activation_type=target.activation_type if self.activation_type == "auto" else self.activation_type,
            weight_type=weight_type,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range == "yes" or (saturates and weight_type == "uint8"),
            op_types=op_types,
            exclude=self.exclude,
            wide=self.wide,
            avoid_saturation=saturates and weight_type == "int8",
        )

    def _ranges(
        self, model: ir.Model, op_types: tuple[str, ...], samples: Samples, context: Context
    ) -> tuple[Mapping[str, Range], list[str]]:
        """Return the range of every activation, and what the samples lack."""
        names = _activations(model, op_types)
        # Other methods and exclusions on the same model need the same histograms: the search tries many.
        key = hashlib.sha256(model_file.to_bytes(model)).hexdigest() + f" {len(samples)} {sorted(names)}"
        if key not in context.cache:
            context.cache[key] = ranges.extremes(model, names, samples)
        found: Mapping[str, Extremes] = context.cache[key]
        inputs = [value.name or "" for value in model.graph.inputs]
        require_variety(found, inputs, samples.name)
        notes = findings(found, inputs, len(samples))
        if self.method in calibrators.FROM_EXTREMES:
            return {name: calibrators.FROM_EXTREMES[self.method](e) for name, e in found.items()}, notes
        if f"{key} histograms" not in context.cache:
            context.cache[f"{key} histograms"] = ranges.histograms(model, samples, found)
        histograms: Mapping[str, Histogram] = context.cache[f"{key} histograms"]
        if self.method == "percentile":
            return {name: calibrators.percentile(h, self.percentile) for name, h in histograms.items()}, notes
        return {name: calibrators.METHODS[self.method](h) for name, h in histograms.items()}, notes


def _activations(model: ir.Model, op_types: tuple[str, ...]) -> list[str]:
    graph = model.graph
    values = (v for n in graph if n.op_type in op_types for v in (*n.inputs, *n.outputs) if v is not None)
    return list(dict.fromkeys(v.name for v in values if v.name and v.name not in graph.initializers))


def _widened(outcome: Outcome, model: ir.Model, wide: tuple[str, ...]) -> Outcome:
    """Return `outcome` with layers of 16-bit activations among what was done, although they run in float."""
    kinds = {node.name: node.op_type for node in model.graph}
    said = {n: f"{kinds[n]} to 8-bit weights and 16-bit activations, computed in float" for n in wide if n in kinds}
    left = {name: reason for name, reason in outcome.left.items() if name not in said}
    return Outcome({**outcome.quantized, **said}, left) if wide else outcome
