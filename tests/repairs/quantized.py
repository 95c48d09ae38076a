"""Small quantized graphs, written by hand, and a clock that says what a test wants."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.target import target_of
from tests import builders
from tests.builders import F, Net

X86, ARM, AVX2 = target_of("x86-vnni"), target_of("arm64-dotprod"), target_of("x86-avx2")


def clock(speed: float, spread: float = 0.01, unsure: str = "") -> Callable[[ir.Model, ir.Model], Latency]:
    """Return a clock by which each model is `speed` times as fast as the one before it."""
    speedup = None if unsure else Interval(speed - spread, speed, speed + spread)
    latency = Latency(1, 1, None, 10, 1, 1, speedup, None, 1, Interval(1, 1, 1), unsure=unsure)
    return lambda before, after: latency


class QNet(Net):
    """A net with Q/DQ."""

    def zero(self, value: int, dtype: type, size: int = 0) -> str:
        return self.const(np.full(size, value, dtype) if size else np.array(value, dtype))

    def pair(self, x: str, scale: float = 0.05, zero: Any = 3, dtype: type = np.int8, **out: Any) -> str:
        """Write QuantizeLinear and DequantizeLinear behind `x`."""
        around = (self.const(np.float32(scale)), self.zero(zero, dtype))
        return str(self.node("DequantizeLinear", self.node("QuantizeLinear", x, *around), *around, **out))

    def stored(self, array: np.ndarray, name: str, zero: int = 0, axis: int = 0, per_channel: bool = True) -> str:
        """Write a DequantizeLinear of stored integers."""
        count = array.shape[axis] if per_channel else 0
        scale = self.rng.uniform(0.01, 0.02, count or None).astype(np.float32) if count else np.float32(0.015)
        zeros = self.zero(zero, array.dtype.type, count)
        return str(self.node("DequantizeLinear", self.const(array, name), self.const(scale), zeros, axis=axis))

    def integers(self, *shape: int, dtype: type = np.int8, most: int = 127) -> np.ndarray:
        shift = 128 if dtype is np.uint8 else 0
        return (self.rng.randint(-most, most + 1, shape) + shift).astype(dtype)


def qdq_cnn(
    activation: type = np.int8, weight: type = np.int8, zero: int = 3, most: int = 127, branch: bool = False
) -> ir.Model:
    """Conv, Relu, Conv in QDQ; with `branch` the first output feeds an Add as well."""
    net, shift = QNet(5), 128 if weight is np.uint8 else 0
    x = net.pair("x", 0.05, zero, activation)
    w = net.stored(net.integers(16, 3, 3, 3, dtype=weight, most=most), "w1", shift, per_channel=False)
    x = net.pair(net.node("Relu", net.node("Conv", x, w, pads=[1] * 4, name="first")), 0.05, zero, activation)
    w = net.stored(net.integers(16, 16, 3, 3, dtype=weight, most=most), "w2", shift, per_channel=False)
    y = net.pair(net.node("Conv", x, w, pads=[1] * 4, name="second"), 0.3, zero, activation)
    if branch:
        y = net.pair(net.node("Add", x, y), 0.3, zero, activation)
    net.node("Identity", y, out="y")
    return net.model([("x", F, ["batch", 3, 8, 8])], [("y", F, ["batch", 16, 8, 8])])


def mended(repair: Repair, model: ir.Model, target: Any = X86) -> tuple[ir.Model, Faults]:
    """Return a mended copy, which has the same outputs where `repair` is exact, and where the fault was."""
    found = repair.find(model, target)
    copy = repair.mended(model, found)
    if repair.exact and found.exact:
        feeds = builders.feeds_of(model)
        for one, other in zip(builders.run(model, feeds), builders.run(copy, feeds), strict=True):
            np.testing.assert_array_equal(one, other)
    return copy, found


def types_of(model: ir.Model) -> dict[str, str]:
    """Return the integer types of stored tensors by name."""
    return {name: v.const_value.dtype.name for name, v in model.graph.initializers.items() if v.const_value is not None}
