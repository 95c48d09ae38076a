"""Outputs of modified versions of one model, computed from the first changed node on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.graph.cut_points import cut_points
from onnxopt.graph.sameness import same_values
from onnxopt.measure.runtime.activations import Arrays, ending_at
from onnxopt.measure.runtime.batches import runs
from onnxopt.measure.runtime.replay import LIMIT_BYTES, starting_at
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file.memory import weight_bytes
from onnxopt.samples import Samples

LEAST_LIMIT_BYTES = 1 << 27
"""Memory limit of kept values for small models."""


class ChangedOutputs:
    """Runs versions of a model on the same samples, each from the last point before the change.

    The points are values on which all later nodes depend, such as the ends of residual blocks; their values for every
    batch are kept.

    Args:
        model: the original of the changed versions.
        samples: samples; read again only if a change comes before the first point, or later nodes read inputs.
        limit_bytes: limit of kept values; if all points need more, every other one is kept, or every fourth, and so on.
            None for twice the size of the weights, but at least 128 MB and at most 512 MB.

    Attributes:
        original: the outputs of `model` for each batch, in graph order.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
    """

    def __init__(self, model: ir.Model, samples: Samples, limit_bytes: int | None = None) -> None:
        self._model = model
        if limit_bytes is None:
            limit_bytes = min(LIMIT_BYTES, max(LEAST_LIMIT_BYTES, 2 * weight_bytes(model)))
        outputs = [v.name or "" for v in model.graph.outputs]
        points = _points(model)
        session = Session(ending_at(model, [*outputs, *points]) if points else model, Runtime())
        self.original = list[list[Any]]()
        self._kept = list[Arrays]()
        size = 0
        for self._samples, _, inside in runs(session, samples):
            self.original.append([inside[name] for name in outputs])
            names = self._kept[0] if self._kept else [p for p in points if isinstance(inside[p], np.ndarray)]
            self._kept.append({name: inside[name] for name in names})
            size += sum(array.nbytes for array in self._kept[-1].values())
            while size > limit_bytes:
                some = list(self._kept[0])[1::2]
                self._kept = [{name: arrays[name] for name in some} for arrays in self._kept]
                size = sum(array.nbytes for arrays in self._kept for array in arrays.values())

    def of(self, model: ir.Model) -> Iterator[Sequence[Any]]:
        """Yield the outputs for each batch, in graph order.

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model.
            NativeError: ONX401 a run failed.
        """
        same = same_values(model, self._model)
        if same.issuperset(v.name or "" for v in model.graph.outputs):
            yield from self.original
            return
        start = next((name for name in reversed(self._kept[0]) if name in same), None)
        if start is None:
            session = Session(model, Runtime())
            yield from (session.run(feeds) for feeds in self._samples)
            return
        begun = starting_at(model, {start: self._kept[0][start]}, self._kept)
        part = ending_at(begun, [v.name or "" for v in model.graph.outputs])
        session = Session(part, Runtime())
        for feeds in self._feeds(start, alone=set(session.input_names) == {start}):
            yield session.run(feeds)

    def _feeds(self, start: str, *, alone: bool) -> Iterator[Mapping[str, np.ndarray]]:
        if alone:
            yield from ({start: arrays[start]} for arrays in self._kept)
            return
        for feeds, arrays in zip(self._samples, self._kept, strict=True):
            yield {**feeds, start: arrays[start]}


def _points(model: ir.Model) -> list[str]:
    """Return one starting point for each number of preceding layers, in graph order."""
    outputs = list(model.graph.outputs)
    if len({v.name for v in outputs}) < len(outputs) or any(v.producer() is None for v in outputs):
        return []
    found = dict.fromkeys(group[-1] for group in cut_points(model))
    return [name for name in found if name not in {v.name for v in outputs}]
