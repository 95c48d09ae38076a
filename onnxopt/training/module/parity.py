"""The gate before training: torch must match ONNX Runtime; an error names the first different node."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from onnxopt.errors import ModelError
from onnxopt.measure.metrics.outputs import is_map
from onnxopt.measure.runtime.activations import ending_at
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Feeds
from onnxopt.training.module.coverage import inlined_functions, live_nodes
from onnxopt.training.module.planner import used_outputs
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.ops.convert import to_array, to_tensors

PARITY_RELATIVE = 5e-3
"""Largest difference relative to each output's largest magnitude; float32 sums over an image come to a third."""
HALF_PARITY_RELATIVE = 2e-2
"""The same where the model computes in 16-bit floats."""
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def check_parity(
    model: ir.Model, module: TorchModel, batches: Iterable[Feeds], tolerance: float | None = None
) -> float:
    """Return the largest difference between `module` and `model` in ONNX Runtime, relative to each output.

    To be asked before the first step: `module` still has the weights of `model`.

    Raises:
        ModelError: ONX310 the difference is above `tolerance`; the first node that differs is named.
        ModelError: ONX309 an operator cannot be run at the shapes of a batch.
    """
    limit = tolerance if tolerance is not None else _tolerance(model)
    session = Session(model, Runtime(optimization="none"))
    worst = 0.0
    for feeds in batches:
        expected = session.named(feeds)
        found = _outputs(module, feeds)
        for name, array in found.items():
            difference = _difference(expected[name], array)
            if not difference <= limit:
                raise _refusal(model, module, feeds, tolerance=limit, output=name, difference=difference)
            worst = max(worst, difference)
    return worst


def first_difference(
    model: ir.Model, module: TorchModel, feeds: Feeds, tolerance: float
) -> tuple[ir.Node, float] | None:
    """Return the first node, in graph order, that torch computes otherwise than ONNX Runtime, and by how much."""
    flat = inlined_functions(model)
    known = {value.name: value for value in flat.graph.outputs}
    nodes = live_nodes(flat.graph, [known[name] for name in module.output_names])
    values = [(node, v) for node in nodes for v in node.outputs[: used_outputs(node)] if v.name]
    inner = ending_at(flat, [v.name or "" for _, v in values])
    names = [v.name or "" for v in inner.graph.outputs]
    expected = Session(inner, Runtime(optimization="none")).named(feeds)
    found = _outputs(TorchModel(inner, outputs=names), feeds)
    for node, value in values:
        name = value.name or ""
        if name in found and not (difference := _difference(expected[name], found[name])) <= tolerance:
            return node, difference
    return None


def _outputs(module: TorchModel, feeds: Feeds) -> dict[str, np.ndarray]:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            outputs = module(to_tensors(feeds, module.device))
    finally:
        module.train(was_training)
    return {name: to_array(tensor) for name, tensor in outputs.items() if tensor is not None}


def _difference(expected: Any, found: np.ndarray) -> float:
    if is_map(expected):
        expected = np.array([[*row.values()] for row in expected])
    if not isinstance(expected, np.ndarray) or expected.dtype.kind in "OUS":
        return 0.0  # text, which torch does not hold
    if expected.shape != found.shape:
        return float("inf")
    one, other = expected.astype(np.float64), found.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return 0.0
    if not np.isfinite(other[~same]).all() or not np.isfinite(one[~same]).all():
        return float("inf")
    scale = float(np.abs(one[np.isfinite(one)]).max())
    return float(np.abs(one[~same] - other[~same]).max() / max(scale, 1e-6))


def _tolerance(model: ir.Model) -> float:
    half = any(v.dtype in _HALVES for node in model.graph.all_nodes() for v in node.outputs)
    half = half or any(v.dtype in _HALVES for graph in model.graphs() for v in graph.initializers.values())
    return HALF_PARITY_RELATIVE if half else PARITY_RELATIVE


def _refusal(
    model: ir.Model, module: TorchModel, feeds: Feeds, *, tolerance: float, output: str, difference: float
) -> ModelError:
    found = first_difference(model, module, feeds, tolerance)
    where = f"output {output}"
    if found is not None:
        node, difference = found
        where = f"{node.op_type} {node.name or node.outputs[0].name}"
    return ModelError(
        "ONX310",
        "the trained form of the model gives other outputs than ONNX Runtime",
        where=where,
        why=f"the outputs differ by {difference:.1e} of their range, {tolerance:.0e} is allowed",
        hint="Leave training out for this model, and please report the node.",
    )
