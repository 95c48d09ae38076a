"""Graphs in which bits per matrix are chosen: the simplified one, or one with each attention in a single node too."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.model_file import fits_protobuf
from onnxopt.passes.fuse_attention import FuseAttention
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.search.losses import Base
from onnxopt.search.workers.runner import LOST

BASE: Base = (Simplify(),)
"""Passes before the choice."""
FUSED: Mapping[str, Pass] = MappingProxyType(
    {f"attention: {form}": FuseAttention(form=form, verify=False) for form in ("portable", "runtime")}
)
"""Exact passes that may follow them. The forms of matrices are timed behind them, so no pass has to measure itself."""
_FORM = QuantizeDynamic(per_channel=False)
"""The form of all matrices in which graphs are timed: the nodes that differ are in float in all forms."""
_WORTH = 0.98
"""Share of the time of the plain graph from which a fused one is used; ratios of equal models differ by a percent."""

Clock = Callable[[Mapping[str, ir.Model]], Sequence[Mapping[str, float]]]
"""Times whole models as they are called; returns their milliseconds by name, for each length."""


def fastest_base(model: ir.Model, context: Context, runs: Sequence[float], clock: Clock) -> Base:
    """Return the passes before the choice whose graph is the fastest with its matrices in INT8, as called.

    Args:
        model: the baseline (not modified).
        context: context of the passes.
        runs: number of runs at each length that the clock times.
        clock: times whole models.

    Raises:
        ModelError: the model cannot be built.
    """
    graphs = _graphs(model, context)
    if len(graphs) == 1:
        return BASE
    try:
        times = clock({name: Pipeline((_FORM,)).run(graph, context).model for name, graph in graphs.items()})
    except NativeError as error:
        # The runtime of a device may be older than the fused node.
        if error.code == LOST:
            raise
        return BASE
    called = {name: sum(n * at[name] for n, at in zip(runs, times, strict=True)) for name in graphs}
    best = min(called, key=lambda name: called[name])
    return (*BASE, FUSED[best]) if best in FUSED and called[best] < _WORTH * called[""] else BASE


def _graphs(model: ir.Model, context: Context) -> dict[str, ir.Model]:
    """Return the simplified graph by the name "", and those in which attention was fused."""
    plain = Pipeline(BASE).run(model, context).model
    graphs = {"": plain}
    # The proof that a fused graph computes the same runs both at once.
    if not fits_protobuf(model):
        return graphs
    for name, spec in FUSED.items():
        try:
            done = Pipeline((spec,)).run(plain, context)
        except ModelError:
            continue
        if done.steps[0].edits:
            graphs[name] = done.model
    return graphs
