"""Latency of single layers on this machine; each shape is measured once and cached."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import tensor_in
from onnxopt.measure.latency import Watch, race, refuse_emulation, watch_of
from onnxopt.measure.latency.remembered import Remembered, is_duration
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, Session, failures_named
from onnxopt.samples import Feeds

_BUDGET_NS = 30_000_000
_ROUNDS = 5
_WARM_UP = 3
_AGAIN = 8

Clock = Callable[[Sequence[ir.Model], Feeds, Runtime], list[float]]
"""Called with models and their inputs; returns the time of each model in milliseconds."""


class LatencyTable:
    """Times of tiny models, by the operation that they compute, stored in a file per machine.

    Args:
        folder: folder of the file; None stores nothing.
        runtime: configuration of ONNX Runtime.
        clock: measures the models.
        emulation: returns the evidence of an emulated processor, or None.

    Raises:
        NativeError: ONX403 the processor is emulated.
    """

    def __init__(
        self,
        folder: Path | None,
        runtime: Runtime | None = None,
        clock: Clock | None = None,
        emulation: Callable[[], str | None] = emulator,
    ) -> None:
        refuse_emulation(emulation)
        self._runtime = runtime or Runtime()
        self._clock = clock or fastest_ms
        path = None if folder is None else folder / f"latency-{machine_name(self._runtime)}.json"
        self._known = Remembered[float](path, lambda ms: is_duration(ms) and ms > 0)

    def times_ms(self, models: Sequence[ir.Model], feeds: Feeds) -> list[float]:
        """Return the time of each model; unknown times are measured in alternating runs.

        Args:
            models: models with the same inputs.
            feeds: one batch; only its shapes matter.
        """
        keys = [_key(model, feeds) for model in models]
        fresh = {key: model for key, model in zip(keys, models, strict=True) if key not in self._known}
        if fresh:
            times = self._clock(list(fresh.values()), feeds, self._runtime)
            self._known.keep(dict(zip(fresh, times, strict=True)))
        return [self._known[key] for key in keys]

    def once_ms(self, model: ir.Model, feeds: Feeds) -> float:
        """Measure the time of a model now, with the clock of the layers."""
        # A model measured alone needs as much time as several do to outlast disturbances.
        return min(self._clock([model] * _AGAIN, feeds, self._runtime))


def fastest_ms(models: Sequence[ir.Model], feeds: Feeds, runtime: Runtime) -> list[float]:
    """Return the shortest time of each model over interleaved repeats: disturbances only lengthen a run."""

    def work() -> list[float]:
        runs = [Session(model, runtime).bound(feeds) for model in models]
        budget, rng = _BUDGET_NS * len(models), np.random.default_rng(0)
        watch = timed_by(runtime)
        with failures_named(feeds):
            rounds = race(
                [[r] for r in runs], budget_ns=budget, min_rounds=_ROUNDS, warmup=_WARM_UP, rng=rng, watch=watch
            )
        return [min(float(np.median(one.own_ns[i])) for one in rounds) / 1e6 for i in range(len(models))]

    return interruptible(work)


def timed_by(runtime: Runtime) -> Watch:
    """Return the clock that separates layers best: one thread's own processor time, which excludes other programs."""
    return watch_of(runtime.threads, on_processor=runtime.provider == Runtime().provider)


def alone(node: ir.Node, weight: ir.TensorProtocol, x_shape: Sequence[int], slot: int) -> ir.Model:
    """Return a model of one layer without its bias.

    Args:
        node: node with the attributes of the layer.
        weight: weight of the layer.
        x_shape: shape of its input.
        slot: input slot of the weight.
    """
    x, fixed, y = ir.Value(name="x"), ir.Value(name="weight", const_value=weight), ir.Value(name="y")
    kind = ir.TensorType(weight.dtype)
    x.shape, x.type, y.type = ir.Shape(x_shape), kind, kind
    fixed.shape, fixed.type = ir.Shape(weight.shape.numpy()), kind
    inputs = [x, fixed] if slot else [fixed, x]
    layer = ir.Node("", node.op_type, inputs, list(node.attributes.values()), outputs=[y], name="layer")
    opsets = {"": max(node.graph.opset_imports.get("", 13), 11)} if node.graph is not None else {"": 13}
    graph = ir.Graph([x], [y], nodes=[layer], initializers=[fixed], opset_imports=opsets, name="layer")
    return ir.Model(graph, ir_version=8)


def copies(model: ir.Model, count: int) -> ir.Model:
    """Return a model of `count` parallel copies of a model from `alone`, or its chain, each with its own weights."""
    made = model.clone()
    graph = made.graph
    for number in range(1, count):
        other = model.clone().graph
        for value in [*other.initializers.values(), *(v for node in other for v in node.outputs)]:
            value.name = f"{value.name}_{number}"
        other.inputs[0].replace_all_uses_with(graph.inputs[0])
        for value in list(other.initializers.values()):
            # The same tensor twice would be one in memory.
            value.const_value = ir.tensor(tensor_in(value).numpy() * (1 + number / 8), name=value.name)
        outputs, weights, nodes = list(other.outputs), list(other.initializers.values()), list(other)
        other.outputs.clear()
        other.initializers.clear()
        other.remove(nodes)
        for node in nodes:
            node.name = f"{node.name}_{number}"
        graph.extend(nodes)
        for value in weights:
            graph.register_initializer(value)
        graph.outputs.extend(outputs)
    return made


def _key(model: ir.Model, feeds: Feeds) -> str:
    """Return the key of a model's operation: shapes, types, operators and attributes, without weights."""
    fed = [f"{name}:{array.dtype}{list(np.shape(array))}" for name, array in sorted(feeds.items())]
    nodes = []
    for node in model.graph:
        shapes = [_shape(value) for value in node.inputs if value is not None and value.const_value is not None]
        attributes = ",".join(f"{a.name}={_text(a)}" for a in sorted(node.attributes.values(), key=lambda a: a.name))
        nodes.append(f"{node.op_type}({attributes}){shapes}")
    return f"{' '.join(fed)} {' '.join(nodes)}"


def _shape(value: ir.Value) -> list[int]:
    return list(tensor_in(value).shape.numpy())


def _text(attribute: ir.Attr) -> str:
    value = attribute.value
    return str(list(value) if isinstance(value, tuple | list) else value).replace(" ", "")


def machine_name(runtime: Runtime) -> str:
    """Return a short name of the machine and the configuration on which times depend."""
    facts = environment(runtime)
    named = {key: facts[key] for key in ("cpu", "architecture", "isa", "provider", "threads", "optimization")}
    text = json.dumps(
        {
            **named,
            "options": runtime.options,
            "clock": timed_by(runtime).own.__name__,
            "onnxruntime": facts["versions"]["onnxruntime"],
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
