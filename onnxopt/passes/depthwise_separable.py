"""Replacement of convolutions by sums of depthwise-separable ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.document import units
from onnxopt.errors import UsageError
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.layers import anatomy_of
from onnxopt.graph.probe import probe
from onnxopt.graph.separable_edit import replace_by_separable
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.measure.verdict import PROVED, PROVED_HALF, one_sample, prove, time_share
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.reconstruction.batches import rebatched
from onnxopt.reconstruction.layers import LinearLayer, drop_zero_biases, with_biases
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics, seen_by, weight_of
from onnxopt.reconstruction.low_rank.rank_choice import relative_error
from onnxopt.reconstruction.low_rank.reducible import reducible
from onnxopt.reconstruction.separable import most_terms, separable_macs_share, separate, separated
from onnxopt.reconstruction.separable_timer import SeparableTimer
from onnxopt.samples import Feeds

_LEAST_MACS = 1_000_000
"""Below this, the overhead of one more node exceeds the saving."""
_USUAL_ERROR = 0.2


@dataclass(frozen=True)
class DepthwiseSeparable(Pass):
    """Replace convolutions by depthwise and 1 x 1 convolutions, where measured faster.

    Each input channel gets one or several kernels. With calibration samples the 1 x 1 weights are fitted to the
    original outputs of the layer, given the inputs of the reduced model. This is the form of MobileNet, without
    training; a layer with too much error, or no measured speed-up, is skipped with the figure.

        Conv(3x3, 64 -> 96)   ->   Conv(3x3, 64 groups, 64 -> 128) - Conv(1x1, 128 -> 96)

    Attributes:
        terms: number of kernels per input channel.
        max_error: largest error of a layer before the fit, relative to the standard deviation of its outputs; each
            layer gets the fewest terms within it. 0.2 when neither is given.
        verify: measure the layers and the whole model, and undo replacements without a speed-up.
        cache: keep the times of layers in the user's cache folder.
        exclude: names of nodes not to replace.
    """

    name: ClassVar[str] = "depthwise-separable"
    effect: ClassVar[Effect] = Effect.LOSSY

    terms: Annotated[int, Field(ge=1)] | None = None
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    verify: bool = True
    cache: bool = True
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Replace the convolutions of `model`; skips name the others with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name, ONX109 both `terms` and `max_error` are given.
        """
        if self.terms is not None and self.max_error is not None:
            raise UsageError(
                "ONX109",
                "options of pass depthwise-separable contradict each other",
                where="terms, max_error",
                why="each one sets the size of the result",
                hint="Give one of them.",
            )
        work = normalized(model)
        require_nodes(work, self.exclude)
        samples = rebatched(model, context.calibration)
        biases = with_biases(work) if samples is not None else set[str]()
        layers, skipped = self._layers(work, observed=samples is not None)
        if not layers:
            return Applied(model, (), tuple(skipped))
        seen = seen_by(work, list(layers.values()), samples) if samples is not None else {}
        feeds = one_sample(model, context.calibration)
        chosen, reasons = self._terms(work, layers, seen, feeds)
        skipped += [Skip(name, reason) for name, reason in reasons.items()]
        if not chosen:
            return Applied(model, (), tuple(skipped))
        wanted, sums = separate(work, layers, chosen, samples)
        result = wanted.clone()
        for name, separable in sums.items():
            replace_by_separable(result, name, separable.depthwise(), separable.mix)
        drop_zero_biases(result, biases)
        kinds = {work.graph.initializers[layers[name].weight].dtype for name in chosen}
        difference, reason = prove(wanted, result, feeds, PROVED_HALF if ir.DataType.FLOAT16 in kinds else PROVED)
        share, note = time_share(model, result, feeds) if not reason and self.verify else (None, "")
        skipped += [Skip("graph", note)] if note else []
        if share is not None and share >= 1.0:
            reason = f"undone: the model took {share:.2f} times the time of the original"
        if reason:
            return Applied(model, (), (*skipped, *(Skip(name, reason) for name in chosen)))
        edits = [Edit(name, _described(count, weight_of(work, layers[name]).shape)) for name, count in chosen.items()]
        if share is not None:
            edits.append(Edit("graph", f"measured time {units.share(share)} of the original"))
        return Applied(result, tuple(edits), tuple(skipped), difference)

    def _layers(self, model: ir.Model, *, observed: bool) -> tuple[dict[str, LinearLayer], list[Skip]]:
        """Return the convolutions with a kernel above 1 x 1, and skips for the others."""
        found, refused = reducible(model, self.exclude, observed=observed)
        convolutions = {node.name for node in model.graph if node.op_type in ("Conv", "ConvTranspose")}
        skipped = [Skip(name, reason) for name, reason in refused.items() if name in convolutions]
        layers = dict[str, LinearLayer]()
        for name in (n for n in found if n in convolutions):
            window = found[name].window
            if window is None or prod(window.kernel) == 1:
                skipped.append(Skip(name, "its kernel is 1 x 1"))
            else:
                layers[name] = found[name]
        return layers, skipped

    def _terms(
        self, model: ir.Model, layers: Mapping[str, LinearLayer], seen: Mapping[str, LayerStatistics], feeds: Feeds
    ) -> tuple[dict[str, int], dict[str, str]]:
        """Return the terms of each layer to replace, and the reasons against the others."""
        chosen, reasons = dict[str, int](), dict[str, str]()
        timer = None
        if self.verify:
            shapes = probe(model, {name: array.shape for name, array in feeds.items()}).shapes
            timer = SeparableTimer(model, shapes, cache_folder() if self.cache else None)
        fixed = with_input_shapes(model, {name: array.shape for name, array in feeds.items()})
        macs = {layer.name: layer.macs or 0 for layer in anatomy_of(fixed).layers}
        for name, layer in layers.items():
            weight = weight_of(model, layer)
            if self.verify and macs.get(name, 0) < _LEAST_MACS:
                reasons[name] = "so few MACs that the overhead of one more node exceeds the saving"
                continue
            count = self._count(weight, seen.get(name))
            share = separable_macs_share(count, weight.shape)
            if share >= 1.0:
                reasons[name] = f"it needs {count} terms, with {units.share(share)} of its MACs"
                continue
            reason = timer.too_slow(layer, weight, count) if timer is not None else ""
            if reason:
                reasons[name] = reason
            else:
                chosen[name] = count
        return chosen, reasons

    def _count(self, weight: np.ndarray, seen: LayerStatistics | None) -> int:
        most = most_terms(weight.shape)
        if self.terms is not None:
            return min(self.terms, most)
        allowed = (self.max_error or _USUAL_ERROR) ** 2
        counts = range(1, most)
        return next((n for n in counts if relative_error(weight, separated(weight, n).weight(), seen) <= allowed), most)


def _described(terms: int, shape: tuple[int, ...]) -> str:
    kernels = "one kernel" if terms == 1 else f"{terms} kernels"
    return f"{kernels} per channel, then 1 x 1: {units.share(separable_macs_share(terms, shape))} of its MACs"
