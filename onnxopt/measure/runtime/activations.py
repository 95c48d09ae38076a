"""Intermediate values of a model, streamed batch by batch."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnxopt.errors import ModelError
from onnxopt.graph.shapes import with_types
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Feeds

Arrays = dict[str, np.ndarray]


class Activations:
    """Values of the main graph by name, weights included, computed without unnecessary nodes.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model, or it has no value of this name.
    """

    def __init__(self, model: ir.Model, names: Sequence[str], runtime: Runtime | None = None) -> None:
        inner = ending_at(model, names)
        fed = {v.name for v in inner.graph.inputs}
        self._fed = tuple(n for n in names if n in fed)
        weights = {n: model.graph.initializers[n].const_value for n in names if n in model.graph.initializers}
        self._constant = {n: w.numpy() for n, w in weights.items() if w is not None and n not in fed}
        self._fetched = tuple(n for n in dict.fromkeys(names) if n not in fed and n not in self._constant)
        self._needed = frozenset(v.name or "" for v in inner.graph.inputs if v.uses()) | frozenset(self._fed)
        self._session = Session(inner, runtime or Runtime()) if self._fetched else None

    @property
    def needed(self) -> frozenset[str]:
        """Inputs of the model on which the values depend."""
        return self._needed

    def one_by_one(self, samples: Iterable[Feeds]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the values for each batch with their names, one value in memory at a time; raises like `of`."""
        for feeds in samples:
            yield from self._constant.items()
            yield from ((name, np.asarray(feeds[name])) for name in self._fed)
            if self._session is not None:
                yield from zip(self._fetched, self._session.one_by_one(feeds, self._fetched), strict=True)

    def of(self, samples: Iterable[Feeds]) -> Iterator[Arrays]:
        """Yield the values for each batch.

        Raises:
            NativeError: ONX401 a run failed.
        """
        for feeds in samples:
            arrays = {**self._constant, **{name: np.asarray(feeds[name]) for name in self._fed}}
            if self._session is not None:
                arrays |= zip(self._fetched, self._session.run(feeds, self._fetched), strict=True)
            yield arrays


def ending_at(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Return a copy of `model` whose outputs are the values `names`, without nodes that they do not need.

    Raises:
        ModelError: ONX304 there is no such value.
    """
    values = {v.name: v for v in _values(model)}
    missing = [name for name in names if name not in values]
    if missing:
        raise ModelError("ONX304", "the graph has no such value", where=missing[0])
    typed = all(values[name].dtype is not None for name in names)
    copy = model.clone() if typed else with_types(model)
    found = {v.name: v for v in _values(copy)}
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(found[n] for n in dict.fromkeys(names) if found[n].producer() is not None)
    RemoveUnusedNodesPass()(copy)
    for value in [v for v in copy.graph.inputs if not v.uses() and v.name not in names]:
        copy.graph.inputs.remove(value)
        copy.graph.initializers.pop(value.name or "", None)
    return copy


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph:
        yield from node.outputs
