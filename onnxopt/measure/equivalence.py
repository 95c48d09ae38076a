"""Numerical equivalence of two models, tested by running them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.errors import NativeError, OnnxoptError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import Signature
from onnxopt.options.runtime import OptimizationLevel
from onnxopt.samples import Feeds


def largest_difference(one: ir.Model, other: ir.Model, batches: Sequence[Feeds]) -> float:
    """Return the largest difference relative to each output's largest magnitude, optimizations off and on.

    Other types than float must be equal and NaN must be in the same places, or the difference is infinite. Models with
    DequantizeLinear are compared only with optimizations off: the optimizer inserts integer products, which round
    differently in models of different size. Without batches nothing is known, and the difference is infinite.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load a model.
        NativeError: ONX401 a run failed.
    """
    worst = 0.0 if batches else float("inf")
    quantized = any(node.op_type == "DequantizeLinear" for node in one.graph)
    levels: tuple[OptimizationLevel, ...] = ("none",) if quantized else ("none", "all")
    for level in levels:
        runtime = Runtime(optimization=level)
        sessions = Session(one, runtime), Session(other, runtime)
        for feeds in batches:
            pairs = zip(*(session.run(feeds) for session in sessions), strict=True)
            worst = max([worst, *(difference(a, b) for a, b in pairs)])
    return worst


def runnable(model: ir.Model, signature: Signature, batches: Sequence[Feeds]) -> list[Feeds]:
    """Return the batches on which `model` runs without an error."""
    names = {spec.name for spec in signature.inputs}
    try:
        session = Session(model, Runtime(optimization="none"))
    except OnnxoptError:
        return []
    good: list[Feeds] = []
    for feeds in batches:
        try:
            session.run({k: v for k, v in feeds.items() if k in names})
        except NativeError:
            continue
        good.append(feeds)
    return good


def difference(one: Any, other: Any) -> float:
    """Return the largest difference of two outputs relative to the first one's largest magnitude.

    Other types than float must be equal, and values that are not finite must be the same in the same places, or the
    difference is infinite. Of sequences the items are compared.
    """
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return 0.0 if type(one) is type(other) and one == other else float("inf")
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else float("inf")
    a, b = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
        return float("inf")
    a, b = a[finite], b[finite]
    return float(np.abs(a - b).max(initial=0.0) / max(float(np.abs(a).max(initial=0.0)), 1e-6))
