"""Time of each layer of a float model, in it or in a modified model, from the runtime's profile."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.measure.latency.latency_table import fastest_ms
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, session_and_graph
from onnxopt.model_file import from_runtime
from onnxopt.quantization.kernels import CONVERSIONS, LayerNames
from onnxopt.samples import Feeds

_RUNS, _MOST_RUNS, _SECONDS = 24, 400, 0.05
"""Fewest runs, and most runs if they are short, because the profile counts whole microseconds."""
_SMALL, _LARGE = 1 << 10, 1 << 17


def layer_times_ms(
    model: ir.Model, made: ir.Model, feeds: Feeds, runtime: Runtime, *, conversions: bool = False
) -> dict[str, float]:
    """Return the time of each layer of the float `model` in runs of `made`; layers without a time are left out.

    The time is the mean of the fastest quarter of each kernel's runs. The profile has the time of day: beside other
    programs a long kernel waits for the processor in most of its runs, and a short one in few.

    Args:
        model: the float model.
        made: the model made from it that runs.
        feeds: one batch.
        runtime: configuration of ONNX Runtime.
        conversions: whether conversions between integers and floats are part of the layers that need them: of a layer's
            input, or of the rows that a table gives. Else they belong to no layer.

    Raises:
        ModelError: ONX304 the runtime cannot load `made`.
        NativeError: ONX401 the model cannot be run.
    """

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
            session, optimized = session_and_graph(made, runtime, profile_prefix=Path(folder) / "profile")
            runs, until = 0, time.monotonic() + _SECONDS
            while runs <= _RUNS or (runs < _MOST_RUNS and time.monotonic() < until):
                session.run(feeds)
                runs += 1
            events = json.loads(session.end_profiling().read_text())
            graph = from_runtime(optimized)
            names = LayerNames(model, graph)
        times_us = defaultdict[tuple[str, str], list[int]](list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times_us[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"])
        found = defaultdict[str, float](float)
        for (kernel, op_type), times in times_us.items():
            typical_ms = _undisturbed(times[1:] or times) / 1e3
            if op_type in CONVERSIONS:
                layers = _needing(graph, kernel, names) if conversions else []
            else:
                layer = names.find(kernel, op_type)
                layers = [] if layer is None else [layer]
            for layer in layers:
                found[layer] += typical_ms / len(layers)
        return dict(found)

    return interruptible(work)


def _needing(graph: ir.Model, kernel: str, names: LayerNames) -> list[str]:
    """Return the layers that need a conversion: the one that gives its integers, or those that read them."""
    node = next((one for one in graph.graph if one.name == kernel), None)
    if node is None:
        return []
    first = node.inputs[0]
    if node.op_type == "DequantizeLinear" and first is not None and (producer := first.producer()) is not None:
        near = [producer]
    else:
        near = [reader for value in node.outputs for reader, _ in value.uses()]
    layers = [names.find(one.name or "", one.op_type) for one in near if one.op_type not in CONVERSIONS]
    return list(dict.fromkeys(layer for layer in layers if layer is not None))


def _undisturbed(times: Sequence[int]) -> float:
    return float(np.mean(sorted(times)[: max(len(times) // 4, 1)]))


def conversion_ms(runtime: Runtime) -> tuple[float, float]:
    """Return the time of a QuantizeLinear or DequantizeLinear: its fixed part, and per element."""
    # Optimizations would merge neighbouring pairs.
    plain, times = replace(runtime, optimization="none"), []
    for size in (_SMALL, _LARGE):
        feeds: Mapping[str, np.ndarray] = {"x": np.linspace(-1, 1, size, dtype=np.float32).reshape(1, size)}
        one, three = fastest_ms([_pairs(1), _pairs(3)], feeds, plain)
        times.append(max(three - one, 1e-5) / 4)
    per_element = max(times[1] - times[0], 0.0) / (_LARGE - _SMALL)
    return max(times[0] - per_element * _SMALL, 0.0), per_element


def _pairs(count: int) -> ir.Model:
    """Return a model of `count` pairs of conversions."""
    x = ir.Value(name="x", shape=ir.Shape([1, None]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes, constants, value = list[ir.Node](), list[ir.Value](), x
    for i in range(count):
        scale = ir.Value(name=f"scale_{i}", const_value=ir.tensor(np.float32(0.01 * (i + 1))))
        zero = ir.Value(name=f"zero_{i}", const_value=ir.tensor(np.uint8(128)))
        constants += [scale, zero]
        for op_type in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(ir.node(op_type, [value, scale, zero], name=f"{op_type}_{i}"))
            value = nodes[-1].outputs[0]
            value.name = f"{op_type}_{i}_output"
    value.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [value], nodes=nodes, initializers=constants, opset_imports={"": 13}, name="pairs")
    return ir.Model(graph, ir_version=8)
