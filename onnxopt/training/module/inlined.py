"""Constants, and control flow that does not depend on data: branches are chosen and loops unrolled while planning."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import onnx_ir as ir
import torch

from onnxopt.training.module.planner import Planner, attributes_of, cannot_train
from onnxopt.training.ops.convert import to_tensor

MOST_TURNS = 4096
"""Loops of more turns are refused: each would become separate steps."""


def _constant(planner: Planner, node: ir.Node) -> None:
    (name,) = node.attributes
    value = node.attributes[name]
    if name == "value" and value.as_tensor().dtype is not ir.DataType.STRING:
        tensor = to_tensor(value.as_tensor().numpy())
    elif name in ("value_float", "value_floats"):
        tensor = torch.tensor(value.value, dtype=torch.float32)
    elif name in ("value_int", "value_ints"):
        tensor = torch.tensor(value.value, dtype=torch.int64)
    else:
        raise cannot_train(node, "it holds text or a sparse tensor")
    planner.places[node.outputs[0]] = planner.constant(tensor)


def _if(planner: Planner, node: ir.Node) -> None:
    condition = planner.place(node.inputs[0])
    if condition not in planner.known:
        raise cannot_train(node, "its condition depends on data")
    branch = node.attributes["then_branch" if bool(planner.values[condition]) else "else_branch"].as_graph()
    results = _run(planner, branch, [])
    planner.places.update(zip(node.outputs, results, strict=True))


def _loop(planner: Planner, node: ir.Node) -> None:
    turns, go, *state = (planner.place(value) for value in node.inputs)
    if turns not in planner.known or go not in planner.known:
        raise cannot_train(node, "its number of turns depends on data")
    limit = MOST_TURNS if planner.values[turns] is None else int(planner.values[turns])
    going = planner.values[go] is None or bool(planner.values[go])
    body = node.attributes["body"].as_graph()
    collected: list[list[int]] = [[] for _ in node.outputs[len(state) :]]
    turn = 0
    while going and turn < limit:
        if turn == MOST_TURNS:
            raise cannot_train(node, f"it has more than {MOST_TURNS} turns")
        fed = [planner.constant(torch.tensor(turn)), planner.constant(torch.tensor(True)), *state]
        again, *results = _run(planner, body, fed)
        if again not in planner.known:
            raise cannot_train(node, "its number of turns depends on data")
        going, turn = bool(planner.values[again]), turn + 1
        state = results[: len(state)]
        for kept, index in zip(collected, results[len(state) :], strict=True):
            kept.append(index)
    stacked = _stacked(planner, node, collected, [0] * len(collected), [0] * len(collected))
    planner.places.update(zip(node.outputs, (*state, *stacked), strict=True))


def _scan(planner: Planner, node: ir.Node) -> None:
    if planner.opsets.get("", 1) < 9:
        raise cannot_train(node, "it has the form of opset 8")
    attributes = attributes_of(node)
    count, body = attributes["num_scan_inputs"], node.attributes["body"].as_graph()
    places = [planner.place(value) for value in node.inputs]
    state, scanned = places[: len(places) - count], places[len(places) - count :]
    if any(index in planner.loose for index in scanned):
        raise cannot_train(node, "its number of turns depends on data")
    axes, backwards = (attributes.get(f"scan_input_{k}", (0,) * count) for k in ("axes", "directions"))
    slices = []
    for index, axis, back in zip(scanned, axes, backwards, strict=True):
        length = planner.values[index].shape[axis]
        parts = planner.emit(lambda x, axis=axis: x.unbind(axis), [index], length)
        slices.append(parts[::-1] if back else parts)
    collected: list[list[int]] = [[] for _ in node.outputs[len(state) :]]
    for parts in zip(*slices, strict=True):
        results = _run(planner, body, [*state, *parts])
        state = results[: len(state)]
        for kept, index in zip(collected, results[len(state) :], strict=True):
            kept.append(index)
    zeros = (0,) * len(collected)
    axes, backwards = (attributes.get(f"scan_output_{k}", zeros) for k in ("axes", "directions"))
    stacked = _stacked(planner, node, collected, axes, backwards)
    planner.places.update(zip(node.outputs, (*state, *stacked), strict=True))


def _stacked(planner: Planner, node: ir.Node, collected: list[list[int]], axes: Any, backwards: Any) -> list[int]:
    stacks = []
    for parts, axis, back in zip(collected, axes, backwards, strict=True):
        if not parts:
            raise cannot_train(node, "it has no turns to collect from")
        stacks.append(planner.emit(lambda *p, axis=axis: torch.stack(p, axis), parts[::-1] if back else parts))
    return stacks


def _run(planner: Planner, graph: ir.Graph, fed: list[int]) -> list[int]:
    planner.places.update(zip(graph.inputs, fed, strict=True))
    for node in graph:
        planner.visit(node)
    return [planner.place(value) for value in graph.outputs]


INLINED: Mapping[str, Callable[[Planner, ir.Node], None]] = MappingProxyType(
    {"Constant": _constant, "If": _if, "Loop": _loop, "Scan": _scan}
)
