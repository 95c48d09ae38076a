"""Profile of ONNX Runtime, node by node, with the names of the user's graph."""

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, session_and_graph
from onnxopt.model_file import Operators, load, operators_of
from onnxopt.samples import Feeds

_SUFFIX = re.compile(
    r"(_nchwc|_nhwc|_quant|_fused|_token_\d+|/\w*Fusion\w*/?|_kernel_time|_(Quantize|Dequantize)Linear)$"
)
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""Operators whose time includes that of the nodes in their bodies, which the profile also lists."""

_NEAR = 4
"""Most nodes to go back in the search for a fused kernel's main operator."""


@dataclass(frozen=True)
class NodeTime:
    """Time of one kernel.

    Attributes:
        name: name of the node in the user's graph; ONNX Runtime's own name if `mapped` is false.
        op_type: operator that ONNX Runtime runs, such as `QLinearConv` for a `Conv` of the user's graph.
        time_ms: mean time over the runs.
        share: share of the time of all kernels.
        mapped: whether a node of the user's graph was found; kernels that only reorder data belong to none.
    """

    name: str
    op_type: str
    time_ms: float
    share: float
    mapped: bool


@dataclass(frozen=True)
class Profile:
    """Kernel times of a model. Profiling slows small kernels down, so shares are more reliable than times.

    Attributes:
        nodes: slowest first.
        by_op: milliseconds per run by operator as ONNX Runtime runs it, slowest first.
        total_ms: time of all kernels in one run.
        runs: number of averaged runs.
    """

    nodes: tuple[NodeTime, ...]
    by_op: Mapping[str, float]
    total_ms: float
    runs: int


def profile(model: ir.Model | Path, feeds: Feeds, runtime: Runtime, runs: int = 20) -> Profile:
    """Run `model` under ONNX Runtime's profiler; the first run is not counted, and Ctrl-C stops it.

    Raises:
        ModelError: ONX304 the model cannot be loaded.
        NativeError: ONX401 the model cannot be run.
    """
    graph = (model if isinstance(model, ir.Model) else load(model)).graph

    def work() -> Profile:
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
            session, optimized = session_and_graph(model, runtime, profile_prefix=Path(folder) / "profile")
            for _ in range(runs + 1):
                session.run(feeds)
            events = json.loads(session.end_profiling().read_text())
            names = NodeNames(graph, operators_of(optimized))
        return summarize(_kernels(events), names, runs)

    return interruptible(work)


def _kernels(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """Return name, operator and own microseconds of every kernel in every run except the first."""
    first_end_us = min((e["ts"] + e["dur"] for e in events if e.get("name") == "model_run"), default=0)
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= first_end_us
    ]
    own_us = [event["dur"] for event in kernels]
    outer: list[int] = []
    for index in sorted(range(len(kernels)), key=lambda i: (kernels[i]["ts"], -kernels[i]["dur"])):
        end_us = kernels[index]["ts"] + kernels[index]["dur"]
        while outer and kernels[outer[-1]]["ts"] + kernels[outer[-1]]["dur"] < end_us:
            outer.pop()
        if outer:
            own_us[outer[-1]] -= kernels[index]["dur"]
        if kernels[index]["args"]["op_name"] in _CONTROL_FLOW:
            outer.append(index)
    return [
        (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"], max(own, 0))
        for event, own in zip(kernels, own_us, strict=True)
    ]


def summarize(kernels: Sequence[tuple[str, str, int]], names: "NodeNames", runs: int) -> Profile:
    """Add up kernels `(name, operator, microseconds)` of `runs` runs."""
    times_us: dict[tuple[str, str], int] = defaultdict(int)
    by_op_us: dict[str, int] = defaultdict(int)
    for native, op_type, duration_us in kernels:
        times_us[native, op_type] += duration_us
        by_op_us[op_type] += duration_us
    total_us = sum(times_us.values())
    nodes = []
    for (native, op_type), time_us in sorted(times_us.items(), key=lambda item: -item[1]):
        name = names.find(native, op_type)
        share = time_us / total_us if total_us else 0.0
        nodes.append(NodeTime(name or native, op_type, time_us / 1e3 / runs, share, name is not None))
    by_op = {op: t / 1e3 / runs for op, t in sorted(by_op_us.items(), key=lambda item: -item[1])}
    return Profile(tuple(nodes), by_op, total_us / 1e3 / runs, runs)


class NodeNames:
    """Maps names of ONNX Runtime's kernels to nodes of the user's graph, as far as names allow.

    Fusions invent node names but keep the names of their outputs. So a kernel is found by its own name or by an output,
    if necessary without the suffixes that optimizers append.

    Args:
        graph: the user's graph.
        optimized: ONNX Runtime's optimized graph, or its operators.
    """

    def __init__(self, graph: ir.Graph, optimized: ir.Graph | Operators) -> None:
        self._by_name = {node.name: node for node in graph.all_nodes() if node.name}
        self._by_value = {value.name: node for node in graph.all_nodes() for value in node.outputs if value.name}
        self._writes: Mapping[str, Sequence[str]]
        if isinstance(optimized, Operators):
            every = (*optimized.main, *optimized.inner)
            self._writes = {one.name: [name for name in one.outputs if name] for one in every if one.name}
        else:
            nodes = (node for node in optimized.all_nodes() if node.name)
            self._writes = {node.name or "": [v.name for v in node.outputs if v.name] for node in nodes}

    def find(self, native: str, op_type: str) -> str | None:
        """Return the name of the user's node that a kernel computes (the name of its first output if it has none)."""
        node = self._look_up(native)
        if node is None:
            return None
        main = _main(node, op_type)
        return main.name or main.outputs[0].name

    def _look_up(self, native: str) -> ir.Node | None:
        for text in (native, *self._writes.get(native, ())):
            for name in _shortened(text):
                node = self._by_name.get(name) or self._by_value.get(name)
                if node is not None:
                    return node
        return None


def _shortened(name: str) -> Iterator[str]:
    """Yield `name`, then shorter names without known suffixes."""
    while True:
        yield name
        shorter = _SUFFIX.sub("", name)
        if shorter == name:
            return
        name = shorter


def _main(node: ir.Node, op_type: str) -> ir.Node:
    """Return the main node of a fused kernel: of `Conv -> Relu`, run as `FusedConv`, the Conv.

    A MatMul and the Add behind it run as a Gemm.
    """
    reached = [node]
    for _ in range(_NEAR):
        for candidate in reached:
            if candidate.op_type in op_type or (candidate.op_type == "MatMul" and "Gemm" in op_type):
                return candidate
        reached = [p for n in reached for v in n.inputs if v is not None and (p := v.producer()) is not None]
    return node
