"""Outputs of a file before and after a repair, with ONNX Runtime's optimizations off and as it is deployed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Feeds

Outputs = list[list[Any]]
"""By output, then by batch."""


class Witness:
    """Runs forms of one model on the same batches.

    Args:
        model: as it was given, whose outputs without optimizations are the truth.
        batches: that it runs on.
        runtime: as it is deployed.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 it cannot be run.
    """

    def __init__(self, model: ir.Model, batches: Sequence[Feeds], runtime: Runtime) -> None:
        self._batches, self._runtime = batches, runtime
        self.truth = self.plain(model)
        self.slack = change(self.truth, self.deployed(model))

    def plain(self, model: ir.Model) -> Outputs:
        """Return the outputs as the standard defines them: nothing fused, nothing folded."""
        return self._run(model, Runtime(optimization="none"))

    def deployed(self, model: ir.Model) -> Outputs:
        """Return the outputs as the runtime's own kernels give them."""
        return self._run(model, self._runtime)

    def _run(self, model: ir.Model, runtime: Runtime) -> Outputs:
        session = Session(model, runtime)
        return [list(arrays) for arrays in zip(*(session.run(feeds) for feeds in self._batches), strict=True)]


def change(before: Outputs, after: Outputs) -> float:
    """Return the largest change of an output: root mean square of the change over that of the output, all batches.

    Of what is no float it is the share of elements that differ. It is infinite where shapes or types differ, or
    NaN and infinities stand elsewhere.
    """
    if len(before) != len(after):
        return float("inf")
    return max((_change(one, other) for one, other in zip(before, after, strict=True)), default=0.0)


def _change(before: list[Any], after: list[Any]) -> float:
    if not all(isinstance(array, np.ndarray) for array in (*before, *after)):
        return 0.0 if before == after else float("inf")
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
