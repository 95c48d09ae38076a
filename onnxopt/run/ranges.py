"""Calibrated ranges of a quantized model's activations, and the values that they clip."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.runtime import OptimizationLevel, full
from onnxopt.record.analysis import RangeRecord
from onnxopt.samples import Samples

SAMPLES, MOST_TENSORS = 32, 200
_LIMITS = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
}


def clipping(original: ir.Model, model: ir.Model, samples: Samples, runtime: Runtime) -> tuple[RangeRecord, ...]:
    """Return the range of every statically quantized activation of `model`, and which values of `samples` fall outside.

    A value is outside when it is further from the range than rounding: half a step. Values are those of the original
    where it has one of the same name: quantizing drops a Relu whose range begins at 0 anyway, and what that cuts off
    is no loss.

    Raises:
        ModelError: ONX304 the model cannot be loaded.
        NativeError: ONX401 it cannot be run.
    """
    ranges = dict(list(_ranges(model).items())[:MOST_TENSORS])
    if not ranges:
        return ()
    lean = _lean(runtime)
    seen = {name: [np.inf, -np.inf, 0.0, 0.0] for name in ranges}
    known = {v.name for v in (*original.graph.inputs, *(v for node in original.graph for v in node.outputs))}
    for source, names in (
        (original, [name for name in ranges if name in known]),
        (model, [name for name in ranges if name not in known]),
    ):
        values = Activations(source, names, lean) if names else None
        for name, array in () if values is None else values.one_by_one(samples.with_batch_size(1)):
            _see(seen[name], array, *ranges[name])
    rows = [
        RangeRecord(
            tensor=name,
            low=low,
            high=high,
            seen_low=seen[name][0],
            seen_high=seen[name][1],
            clipped=seen[name][2] / max(seen[name][3], 1),
        )
        for name, (low, high, _) in ranges.items()
    ]
    return tuple(sorted(rows, key=lambda row: -(row.clipped or 0.0)))


def _lean(runtime: Runtime) -> Runtime:
    """Return settings for runs that give out nearly all values.

    In its own layout of convolutions the runtime would convert every value back, and hold both; an arena grows to twice
    the size of all values.
    """
    level: OptimizationLevel = "extended" if runtime.optimization == "all" else runtime.optimization
    return replace(full(runtime), optimization=level, arena=False)


def _see(found: list[float], array: np.ndarray, low: float, high: float, step: float) -> None:
    if array.size:
        found[0], found[1] = min(found[0], float(array.min())), max(found[1], float(array.max()))
        found[2] += int(np.sum((array < low - step / 2) | (array > high + step / 2)))
        found[3] += array.size


def _ranges(model: ir.Model) -> dict[str, tuple[float, float, float]]:
    """Return the smallest and largest value and the step of each activation that has one scale."""
    found = {}
    for node in model.graph:
        if node.op_type != "QuantizeLinear" or len(node.inputs) < 2 or node.inputs[0] is None:
            continue
        scale = constant_of(node.inputs[1])
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        point = constant_of(zero)
        if scale is None or scale.size != 1 or node.inputs[0].const_value is not None:
            continue
        dtype = ir.DataType.UINT8 if point is None else point.dtype
        if dtype not in _LIMITS:
            continue
        step, shift = float(scale.numpy().reshape(-1)[0]), 0 if point is None else int(point.numpy().reshape(-1)[0])
        low, high = ((limit - shift) * step for limit in _LIMITS[dtype])
        found[node.inputs[0].name or ""] = (low, high, step)
    return found
