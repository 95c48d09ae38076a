"""Values of a model, one after the other in graph order, each computed from those kept before the last one.

Weights may change behind the last value, as they do where layer after layer is corrected. A session of the whole model
for each layer takes minutes for hundreds of layers.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.shapes import with_types
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.replay import LIMIT_BYTES, common_shape
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Feeds

_PLAIN = "fiub"
"""Kinds of arrays that are kept."""
WORTH_NODES = 50_000
"""Nodes of all whole models from which on parts are worth it: a kernel that is fused across the end of a part differs
in the last bit, which rounding to integers amplifies.
"""
_Kept = dict[ir.Value, np.ndarray]


class Stages:
    """Computes values of the main graph on the same samples.

    Where layers are between QuantizeLinear and DequantizeLinear, integers are kept, so that the runtime computes every
    layer with the same kernel as in the whole graph. Where the graph has subgraphs, or a part cannot be run, the whole
    is, and so is a small graph.

    Args:
        model: the model; weights of nodes before the last value must not change any more.
        batches: gives the samples, the same ones in each call.
        count: number of values that are going to be computed.
        limit_bytes: limit of kept values; if the next ones would exceed it, the earlier ones stay.
    """

    def __init__(
        self, model: ir.Model, batches: Callable[[], Iterable[Feeds]], count: int, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self._model, self._batches, self._limit = model, batches, limit_bytes
        self._nodes = list(model.graph)
        self._values = {v.name: v for node in self._nodes for v in node.outputs if v.name}
        small = count * len(self._nodes) < WORTH_NODES
        whole = small or bool(model.functions) or any(map(_has_graph, self._nodes))
        self._front = None if whole else _Front(model.graph)
        self._kept = list[_Kept]()

    def of(self, name: str) -> Iterator[np.ndarray]:
        """Yield the value for each batch; the next value is computed behind it if all are taken.

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model, or it has no value of this name.
            NativeError: ONX401 a run failed.
        """
        value = self._values.get(name)
        producer = None if value is None else value.producer()
        if self._front is None or value is None or producer is None or not self._front.is_ahead(producer):
            return self._of_whole(name)
        keep = self._front.move_to(producer)
        known = self._kept[0] if self._kept else {}
        fresh = [one for one in keep if one not in known]
        try:
            session = Session(self._part([value, *fresh], self._front.place), Runtime())
        except (ModelError, NativeError):
            return self._of_whole(name)
        return self._run(session, value, keep, fresh)

    def _of_whole(self, name: str) -> Iterator[np.ndarray]:
        return (arrays[name] for arrays in Activations(self._model, [name]).of(self._batches()))

    def _run(
        self, session: Session, value: ir.Value, keep: Sequence[ir.Value], fresh: Sequence[ir.Value]
    ) -> Iterator[np.ndarray]:
        later, size, names = list[_Kept](), 0, [one.name or "" for one in (value, *fresh)]
        for number, feeds in enumerate(self._batches()):
            before = self._kept[number] if self._kept else {}
            array, *more = session.run({**feeds, **{one.name or "": kept for one, kept in before.items()}}, names)
            yield array
            if size <= self._limit:
                found = {**before, **dict(zip(fresh, more, strict=True))}
                later.append({one: found[one] for one in keep})
                size += sum(map(self._bytes, later[-1].values()))
        if size <= self._limit:
            self._kept = later

    def _bytes(self, array: object) -> int:
        """Return the size of a value, beyond the limit if it is no array that an input takes."""
        plain = isinstance(array, np.ndarray) and array.dtype.kind in _PLAIN
        return array.nbytes if plain and isinstance(array, np.ndarray) else self._limit + 1

    def _part(self, outputs: Sequence[ir.Value], place: Callable[[ir.Node], int]) -> ir.Model:
        """Return a model of the nodes between the kept values and `outputs`, in the order of their places."""
        known = self._kept[0] if self._kept else {}
        nodes, ends = _between(known, outputs)
        graph = self._model.graph
        kept = [value for value in ends if value in known]
        given = [value for value in graph.inputs if value in ends and not value.is_initializer()]
        weights = [value for value in ends if value.is_initializer()]
        view = ir.GraphView(
            [*given, *kept],
            outputs,
            nodes=sorted(nodes, key=place),
            initializers=weights,
            opset_imports=graph.opset_imports,
            name=graph.name,
        )
        part = ir.Model(view.clone(), ir_version=self._model.ir_version)
        for old, new in zip(kept, part.graph.inputs[len(given) :], strict=True):
            new.type = ir.TensorType(ir.DataType.from_numpy(known[old].dtype))
            new.shape = ir.Shape(common_shape([arrays[old].shape for arrays in self._kept]))
        return part if all(value.dtype is not None for value in part.graph.outputs) else with_types(part)


class _Front:
    """The values that nodes before a place compute from the inputs and later nodes read.

    Args:
        graph: a graph without subgraphs.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._nodes = list(graph)
        self._places = {node: place for place, node in enumerate(self._nodes)}
        self._varying = {value for value in graph.inputs if not value.is_initializer()}
        for node in self._nodes:
            if any(value in self._varying for value in node.inputs):
                self._varying.update(node.outputs)
        self._last = {v: max((self._places[use.node] for use in v.uses()), default=-1) for v in self._varying}
        self._live, self._at = dict[ir.Value, None](), 0

    def place(self, node: ir.Node) -> int:
        """Return the place of a node in graph order."""
        return self._places[node]

    def is_ahead(self, node: ir.Node) -> bool:
        """Return whether a node stands at the front or behind it."""
        return self._places[node] >= self._at

    def move_to(self, node: ir.Node) -> list[ir.Value]:
        """Move the front before `node`; return the values to keep there, from which all behind it follows."""
        place = self._places[node]
        made = (value for before in self._nodes[self._at : place] for value in before.outputs)
        self._live |= dict.fromkeys(value for value in made if value in self._varying)
        self._live = {value: None for value in self._live if self._last[value] >= place}
        self._at = place
        return list(dict.fromkeys(one for value in self._live for one in self._uncut(value)))

    def _uncut(self, value: ir.Value) -> Collection[ir.Value]:
        """Return the values to keep for a live one: integers, if a conversion is on this side of it or on the other."""
        producer = value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            integers = producer.inputs[0]
            return [integers] if integers is not None and integers.producer() is not None else []
        readers = [use.node for use in value.uses() if self._places[use.node] >= self._at]
        if all(reader.op_type == "QuantizeLinear" for reader in readers):
            return [reader.outputs[0] for reader in readers]
        return [value]


def _between(known: Collection[ir.Value], outputs: Sequence[ir.Value]) -> tuple[set[ir.Node], dict[ir.Value, None]]:
    """Return the nodes that compute `outputs` from `known`, and the values from which they do."""
    nodes, ends, waiting = set[ir.Node](), dict[ir.Value, None](), list(outputs)
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if producer is None or value in known:
            ends[value] = None
        elif producer not in nodes:
            nodes.add(producer)
            waiting += [one for one in producer.inputs if one is not None]
    return nodes, ends


def _has_graph(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
