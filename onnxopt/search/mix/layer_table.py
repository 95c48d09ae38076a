"""Output error of each technique on one layer alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.channels.find import channels_of
from onnxopt.measure.latency.remembered import Remembered
from onnxopt.measure.output_error import OutputError
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.search.losses import evidence_key
from onnxopt.search.mix.forms import low_rank_at

Row = tuple[str, str, float | None, str]
SHARES = (0.25, 0.5)
"""Removed shares of a layer's channels."""
RANKS = (0.5, 0.25)
"""Kept shares of a layer's full rank."""


@dataclass(frozen=True)
class LayerSensitivity:
    """The effect of one technique on one layer alone.

    Attributes:
        layer: name of the node; for a channel group, of the first node that computes it.
        technique: `INT8`, `rank 50%`, `channels -25%` and the like.
        error: mean squared difference of the outputs over their variance; None if the technique does not apply.
        why: the reason why it does not apply; empty if it does.
    """

    layer: str
    technique: str
    error: float | None
    why: str = ""


def layer_table(
    model: ir.Model,
    context: Context,
    progress: Callable[[int, int], None] = lambda done, total: None,
    folder: Path | None = None,
) -> tuple[LayerSensitivity, ...]:
    """Return the output loss of every technique on every layer, layers in graph order.

    Args:
        model: the float model (not modified).
        context: context with calibration samples; a few of them judge, labels are not used.
        progress: called with the number of trials done and their total.
        folder: cache folder of tables; None for no cache.
    """
    key = None if folder is None else evidence_key(model, context, *map(str, (*SHARES, *RANKS)))
    if folder is None or key is None:
        return tuple(_measured(model, context, progress))
    known = Remembered[list[Row]](folder / "layer-harm.json", _are_rows)
    if key not in known:
        known.keep({key: [(h.layer, h.technique, h.error, h.why) for h in _measured(model, context, progress)]})
    return tuple(LayerSensitivity(*row) for row in known[key])


def _are_rows(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(row, list) and len(row) == len(fields(LayerSensitivity)) for row in found
    )


def _measured(model: ir.Model, context: Context, progress: Callable[[int, int], None]) -> list[LayerSensitivity]:
    assert context.calibration is not None
    simple = Pipeline((Simplify(fuse=False),)).run(model, context).model
    error = OutputError(simple, context.calibration)
    trials = list(_trials(simple, context))
    found = list[LayerSensitivity]()
    for number, (layer, technique, spec) in enumerate(trials):
        progress(number, len(trials))
        try:
            done = Pipeline((spec,)).run(simple, context)
        except (ModelError, NativeError) as failure:
            found.append(LayerSensitivity(layer, technique, None, failure.what))
            continue
        (step,) = done.steps
        if step.edits:
            found.append(LayerSensitivity(layer, technique, error.of(done.model)))
        else:
            reasons = [skip.reason for skip in step.skipped if skip.target == layer] or ["nothing to do"]
            found.append(LayerSensitivity(layer, technique, None, reasons[0]))
    progress(len(trials), len(trials))
    return found


def _trials(model: ir.Model, context: Context) -> Iterator[tuple[str, str, Pass]]:
    quantized = [edit.target for edit in Pipeline((QuantizeStatic(),)).run(model, context).steps[0].edits]
    weighted = [n.name or "" for n in model.graph if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    known = {node.name for node in model.graph}
    for layer in (name for name in weighted if name in quantized):
        others = tuple(name for name in quantized if name != layer and name in known)
        yield layer, "INT8", QuantizeStatic(exclude=others)
    for layer in weighted:
        for ratio in RANKS:
            yield layer, f"rank {ratio:.0%}", low_rank_at(ratio, tuple(name for name in weighted if name != layer))
    for group in channels_of(model).groups:
        if not group.frozen:
            for share in SHARES:
                spec = PruneChannels(
                    ratio=0.0, scope="local", protect=(), ratios=(f"{group.name}:{share}",), round_to=1
                )
                yield group.name, f"channels -{share:.0%}", spec
