"""Outputs of a file before and after a repair, with ONNX Runtime's optimizations off and as deployed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.measure.equivalence import difference
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Feeds

Outputs = list[list[Any]]
"""By output, then by batch."""
STANDARD_ERRORS = 2.5
"""Between an estimate and the upper end of its 95 % interval: 1.6 hold where inputs change alike, and 86 % where a few
of sixteen inputs change much."""


class Witness:
    """Runs forms of one model on the same batches.

    Args:
        model: the given model, whose outputs without optimizations are the truth.
        batches: batches on which it runs.
        runtime: configuration of ONNX Runtime in deployment.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 the model cannot be run.
    """

    def __init__(self, model: ir.Model, batches: Sequence[Feeds], runtime: Runtime) -> None:
        self._batches, self._runtime = batches, runtime
        self.truth = self.plain(model)
        self.slack = change(self.truth, self.deployed(model))

    def plain(self, model: ir.Model) -> Outputs:
        """Return the outputs by the standard's definition, without fusion and folding."""
        return self._run(model, Runtime(optimization="none"))

    def deployed(self, model: ir.Model) -> Outputs:
        """Return the outputs of the runtime's optimized kernels."""
        return self._run(model, self._runtime)

    def _run(self, model: ir.Model, runtime: Runtime) -> Outputs:
        session = Session(model, runtime)
        return [list(arrays) for arrays in zip(*(session.run(feeds) for feeds in self._batches), strict=True)]


def change(before: Outputs, after: Outputs) -> float:
    """Return the largest change of an output: root mean square of the change over that of the output, for all batches.

    For other types than float it is the share of different elements. It is infinite if shapes or types differ, or if
    NaN and infinities are in other places, and where nothing was run.
    """
    if not before or len(before) != len(after):
        return float("inf")
    return max(_change(one, other) for one, other in zip(before, after, strict=True))


def likely_change(before: Outputs, after: Outputs) -> float:
    """Return the upper end of the 95 % interval of `change` over other inputs of the same kind.

    The interval is that of the jackknife over the batches: an output that hardly changes but for one input in ten may
    change more on others. With one batch it is `change` itself.
    """
    whole = change(before, after)
    batches = range(len(before[0])) if before else range(0)
    if not np.isfinite(whole) or len(batches) < 2:
        return whole
    without = np.array([change(_others(before, i), _others(after, i)) for i in batches])
    if not np.isfinite(without).all():
        return whole
    spread = np.sqrt((len(batches) - 1) / len(batches) * np.sum((without - without.mean()) ** 2))
    return float(whole + STANDARD_ERRORS * spread)


def _others(outputs: Outputs, batch: int) -> Outputs:
    return [[*arrays[:batch], *arrays[batch + 1 :]] for arrays in outputs]


def _change(before: list[Any], after: list[Any]) -> float:
    if not all(isinstance(array, np.ndarray) for array in (*before, *after)):
        return 0.0 if all(difference(a, b) == 0 for a, b in zip(before, after, strict=True)) else float("inf")
    pairs = list(zip(before, after, strict=True))
    if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in pairs):
        return float("inf")
    old, new = (np.concatenate([array.reshape(-1) for array in arrays]) for arrays in (before, after))
    if old.dtype.kind != "f":
        return float(np.mean(old != new)) if old.size else 0.0
    old, new = old.astype(np.float64), new.astype(np.float64)
    finite = np.isfinite(old)
    if not np.array_equal(old[~finite], new[~finite], equal_nan=True) or not np.isfinite(new[finite]).all():
        return float("inf")
    moved, size = np.linalg.norm(new[finite] - old[finite]), np.linalg.norm(old[finite])
    return float(moved / size) if size else (0.0 if not moved else float("inf"))
