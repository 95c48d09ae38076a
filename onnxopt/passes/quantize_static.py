"""Static INT8 quantization, with activation ranges from calibration samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.errors import ModelError, NativeError, UsageError, nearest
from onnxopt.graph.aligned_channels import align_all
from onnxopt.graph.edit import editable
from onnxopt.graph.pointwise.functions import with_functions
from onnxopt.graph.renamed import renamed
from onnxopt.graph.shapes import with_types
from onnxopt.options.choices import Placement
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip
from onnxopt.quantization import ort_bridge
from onnxopt.quantization.built import Built
from onnxopt.quantization.calibration.calibrate import calibrate
from onnxopt.quantization.calibration.histogram import Range
from onnxopt.quantization.equalization import bias_correction, channel_correction
from onnxopt.quantization.half import store_half, widened
from onnxopt.quantization.kernels import proved
from onnxopt.quantization.outcome import WEIGHTED, Outcome, read_back
from onnxopt.quantization.placement.measured import BuildModel, Placed, place, unmeasurable
from onnxopt.quantization.placement.obstacles import static_obstacles
from onnxopt.quantization.placement.static_plan import StaticPlan, decide
from onnxopt.quantization.rounding.qdq_rounding import round_by_gptq
from onnxopt.samples import Samples

_CORRECTED_ON = 48
"""Largest number of samples for means of outputs: every layer needs its own sweep."""
_JUDGED_ON = 16
"""Samples besides that are enough to compare outputs on."""
QDQ_OPSET = 13
"""First opset with one scale per channel in QuantizeLinear and DequantizeLinear."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Quantize weights and activations to INT8 with calibrated ranges, by ONNX Runtime's quantizer.

    Attributes:
        method: calibration method: the rule from an activation's histogram to its range.
        percentile: share of values inside the range with `method=percentile`, in percent.
        form: `qdq` (QuantizeLinear/DequantizeLinear pairs, fused at load time) or `qoperator`.
        per_channel: one scale per output channel of a weight, instead of one per tensor.
        activation_type: integer type of activations; `auto` follows the target.
        weight_type: integer type of weights; `auto` follows the target.
        reduce_range: `yes` = 7-bit weights; `auto` reduces only the weight channels whose products could saturate on
            the target, and only as far as needed.
        op_types: operator types to quantize; empty = all that the quantizer supports.
        exclude: names of nodes to keep in float; activation functions behind layers among them stay there too.
        int16_activations: names of nodes whose activations get 16 bits (`form=qdq` only), for accuracy in an
            all-integer file. The runtime's CPU kernels compute these layers in float, which is slower.
        correct_bias: subtract the mean output error of each layer on the calibration samples from its bias, in graph
            order (`form=qdq` only).
        correct_channels: fit the float output of each layer to its quantized output by least squares, channel by
            channel, and fold factor and shift into the scale of the weight and the bias (`form=qdq` only); includes
            `correct_bias`, and costs no time in the model. Undone where the outputs of the model are no closer.
        rounding: the rounding of weights: `nearest`, or `gptq`, which corrects the rounding error of each weight in the
            next ones (`form=qdq` only). Grouped convolutions use `nearest`.
        placement: `all` = all supported layers in INT8; `measured` = INT8 where measured faster on this machine with
            one thread, including conversions, so the model is never slower than float.
        min_sqnr_db: with `placement=measured`, the lowest SQNR of the model outputs, in dB; the layers with the most
            noise for the time that they save stay in float. 0 = no limit.
        samples: largest number of calibration samples.
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
    form: Literal["qdq", "qoperator"] = "qdq"
    per_channel: bool = True
    activation_type: Literal["auto", "int8", "uint8"] = "auto"
    weight_type: Literal["auto", "int8", "uint8"] = "auto"
    reduce_range: Literal["auto", "yes", "no"] = "auto"
    op_types: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    int16_activations: tuple[str, ...] = ()
    correct_bias: bool = False
    correct_channels: bool = False
    rounding: Literal["nearest", "gptq"] = "nearest"
    placement: Placement = "all"
    min_sqnr_db: Annotated[float, Field(ge=0, le=100)] = 0
    samples: Annotated[int, Field(ge=1)] = 128

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Quantize `model`; skips name the layers in float with reasons.

        Raises:
            UsageError: ONX102 `exclude`, `int16_activations` or `op_types` has an unknown name,
                ONX112 `min_sqnr_db` without `placement=measured`, or `int16_activations` or `rounding` without
                `form=qdq`.
            DataError: ONX205 no input varies over the calibration samples.
        """
        self._require_consistent()
        known = renamed(model, self.exclude, context.teacher)
        if known.notes:
            applied = replace(self, exclude=known.names).apply(model, context)
            return replace(applied, skipped=(*(Skip(*note) for note in known.notes.items()), *applied.skipped))
        found = self._before(model)
        if isinstance(found, Skip):
            return Applied(model, (), (found,))
        before, narrow = widened(found)
        exclude = with_functions(before, self.exclude, WEIGHTED)
        if exclude != self.exclude:
            return replace(self, exclude=exclude).apply(model, context)
        if (self.correct_bias or self.correct_channels) and self.form == "qdq":
            bias_correction.give_biases(before, [n.name or "" for n in before.graph if n.name not in self.exclude])
        assert context.calibration is not None
        # One sample at a time: every activation of a batch is alive at once, and ranges do not depend on the batch.
        samples = context.calibration.take(self.samples).with_batch_size(1)
        try:
            made = self._quantized(before, samples, context)
        except (NativeError, ModelError) as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        edits, skips = self._refined(made, before, samples, context)
        if context.target.activation_type == "uint8":
            edits += [Edit(name, "channels of zeros added for a faster kernel") for name in align_all(made.model)]
        store_half(made.model, narrow)
        return Applied(made.model if edits else model, tuple(edits), tuple(skips))

    def _require_consistent(self) -> None:
        for option, needed, wrong in (
            ("min_sqnr_db", "placement=measured", self.min_sqnr_db and self.placement != "measured"),
            ("int16_activations", "form=qdq", self.int16_activations and self.form != "qdq"),
            ("rounding", "form=qdq", self.rounding != "nearest" and self.form != "qdq"),
        ):
            if wrong:
                raise UsageError("ONX112", f"this option is for {needed}", where=option, hint="Leave it out.")
        known = ort_bridge.static_op_types()
        for op_type in self.op_types:
            if op_type not in known:
                raise UsageError(
                    "ONX102", "unknown or unsupported operator type", where=op_type, hint=nearest(op_type, known)
                )

    def _before(self, model: ir.Model) -> ir.Model | Skip:
        """Return the model to quantize, or the reason against it."""
        if not model_file.fits_protobuf(model):
            why = "ONNX Runtime's quantizer takes no model above 1.5 GB; quantize-dynamic and quantize-weights do"
            return Skip("graph", why)
        named = editable(model, (*self.exclude, *self.int16_activations))
        try:
            # Standard conversions know 16 bits from opset 21 on.
            before = model_file.upgrade_opset(named, 21 if self.int16_activations else QDQ_OPSET)
        except ModelError as error:
            return Skip("graph", f"{error.what}: {error.why}")
        return before

    def _quantized(self, before: ir.Model, samples: Samples, context: Context) -> "_Made":
        """Calibrate, decide and quantize.

        Raises:
            NativeError, ModelError: no quantized form of the model runs.
            DataError: as `apply`.
        """
        op_types = self.op_types or ort_bridge.static_op_types()
        names = _activations(before, op_types)
        typed = with_types(before)
        calibration = calibrate(
            typed,
            names,
            samples,
            method=self.method,
            percentile=self.percentile,
            cache=context.cache,
            typed=True,
            levels=1 << (16 if self.int16_activations else 8),
        )
        obstacles = static_obstacles(typed, self.form, op_types, calibration.ranges)
        ready = ort_bridge.prepared_for_quantizer(typed, op_types, calibration.ranges)
        options = self._options(op_types, context)

        def make(ranges: Mapping[str, Range], more: tuple[str, ...]) -> Built:
            return ort_bridge.quantize_static(before, ranges, replace(options, exclude=(*self.exclude, *more)), ready)

        nodes = [n for n in before.graph if n.op_type in op_types and n.name not in self.exclude]
        plan = decide(before, calibration, make, nodes=nodes, obstacles=obstacles, samples=samples)
        notes = [Skip("calibration", finding) for finding in calibration.findings]
        made = self._read_back(before, plan, Placed(), notes)
        if self.placement == "all" or not made.outcome.quantized:
            return made
        if why := unmeasurable(context.target):
            return replace(made, notes=(*made.notes, Skip("graph", why)))

        def build(more: tuple[str, ...]) -> Built:
            return make(plan.ranges, (*plan.left, *more))

        placed = self._place(before, made, lambda more: build(more).model, samples, context)
        if not placed.reasons:
            return made
        return self._read_back(before, replace(plan, built=build(placed.exclude), optimized=b""), placed, notes)

    def _read_back(self, before: ir.Model, plan: StaticPlan, placed: Placed, notes: Sequence[Skip]) -> "_Made":
        """Return the outcome for each layer, read from the runtime's graph of the quantized model."""
        hints = {op: "not among the op types chosen" for op in WEIGHTED if self.op_types and op not in self.op_types}
        hints |= {"GRU": "the runtime has no INT8 GRU", "LSTM": "the runtime has no static INT8 LSTM"}
        exclude = frozenset((*self.exclude, *plan.left, *placed.exclude))
        outcome = proved(read_back(before, plan.model, exclude, hints), before, plan.model, plan.optimized)
        reasons = {**plan.left, **placed.reasons}
        left = {n: r for n, r in outcome.left.items() if n not in reasons}
        outcome = _widened(Outcome(outcome.quantized, left | reasons), before, self.int16_activations)
        clipped = tuple(Edit(name, reason) for name, reason in plan.clipped.items())
        return _Made(plan.model, outcome, clipped if outcome.quantized else (), tuple(notes))

    def _refined(
        self, made: "_Made", before: ir.Model, samples: Samples, context: Context
    ) -> tuple[list[Edit], list[Skip]]:
        """Apply the options `rounding` and `correct_bias` in place; return all edits and skips."""
        edits = [*(Edit(name, action) for name, action in made.outcome.quantized.items()), *made.clipped]
        skips = [*made.notes, *(Skip(name, reason) for name, reason in made.outcome.left.items())]
        if self.rounding == "gptq" and edits:
            # Before bias correction, which then removes the remaining shift.
            avoid = self._options(self.op_types, context).avoid_saturation
            rounded = round_by_gptq(made.model, before, samples, avoid_saturation=avoid)
            edits += [
                Edit(n, f"GPTQ rounding: {units.share(e)} of the output error of nearest rounding")
                for n, e in rounded.errors.items()
            ]
            skips += [Skip(n, f"nearest rounding instead of GPTQ: {why}") for n, why in rounded.left.items()]
        few = samples.take(min(_CORRECTED_ON, len(samples)))
        rest = samples.indices[len(few) :]
        others = samples.select(rest) if len(rest) >= _JUDGED_ON else samples
        if self.form != "qdq" and (self.correct_bias or self.correct_channels):
            skips.append(Skip("graph", "biases and scales are corrected with form=qdq only"))
        elif self.correct_channels and edits:
            remains, why = channel_correction.correct_if_closer(made.model, before, few, others)
            edits += [
                Edit(n, f"channels corrected: {units.share(e)} of its output error remain") for n, e in remains.items()
            ]
            skips += [Skip("graph", why)] if why else []
        elif self.correct_bias and edits:
            corrected = bias_correction.correct_biases(made.model, before, few)
            edits += [Edit(n, f"bias corrected by up to {100 * d:.2g} % of its output") for n, d in corrected.items()]
        return edits, skips

    def _place(self, before: ir.Model, made: "_Made", build: BuildModel, samples: Samples, context: Context) -> Placed:
        # Measured once: the same search must not come to two placements of one model.
        def placed() -> Placed:
            min_sqnr_db = self.min_sqnr_db or float("-inf")
            return place(before, made.model, list(made.outcome.quantized), build, samples, min_sqnr_db=min_sqnr_db)

        return context.cache.once("placement", (str(self), model_file.digest(made.model)), placed)

    def _options(self, op_types: tuple[str, ...], context: Context) -> ort_bridge.StaticOptions:
        target = context.target
        weight_type = target.weight_type if self.weight_type == "auto" else self.weight_type
        saturates = self.reduce_range == "auto" and target.reduce_range
        return ort_bridge.StaticOptions(
            form=self.form,
            activation_type=target.activation_type if self.activation_type == "auto" else self.activation_type,
            weight_type=weight_type,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range == "yes" or (saturates and weight_type == "uint8"),
            op_types=op_types,
            exclude=self.exclude,
            int16_activations=self.int16_activations,
            avoid_saturation=saturates and weight_type == "int8",
        )


@dataclass(frozen=True)
class _Made:
    """A quantized model with the outcome of its layers, clipped ranges, and notes."""

    model: ir.Model
    outcome: Outcome
    clipped: tuple[Edit, ...]
    notes: tuple[Skip, ...]


def _activations(model: ir.Model, op_types: tuple[str, ...]) -> list[str]:
    graph = model.graph
    values = (v for n in graph if n.op_type in op_types for v in (*n.inputs, *n.outputs) if v is not None)
    return list(dict.fromkeys(v.name for v in values if v.name and v.name not in graph.initializers))


def _widened(outcome: Outcome, model: ir.Model, wide: tuple[str, ...]) -> Outcome:
    """Return `outcome` with layers of 16-bit activations among the quantized ones, although they run in float."""
    kinds = {node.name: node.op_type for node in model.graph}
    said = {n: f"{kinds[n]} to 8-bit weights and 16-bit activations, computed in float" for n in wide if n in kinds}
    left = {name: reason for name, reason in outcome.left.items() if name not in said}
    return Outcome({**outcome.quantized, **said}, left) if wide else outcome
