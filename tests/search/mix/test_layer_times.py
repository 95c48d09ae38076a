"""Times of layers: conversions belong to those that need them, and other programs lengthen none."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.kernels import CONVERSIONS, LayerNames
from onnxopt.quantization.placement.node_times import _needing, _undisturbed, layer_times_ms
from onnxopt.search.mix import layer_times
from onnxopt.search.mix.layer_times import LayerTimes, TimedForm
from onnxopt.target import target_of
from tests import builders


def attention() -> ir.Model:
    """Return rows of a table that two products read, whose sum a third one reads."""
    net = builders.Net(3)
    rows = net.node("Tanh", net.node("Gather", net.weight(500, 256, name="table"), "ids", name="look_up"))
    two = [net.node("MatMul", rows, net.weight(256, 256), name=name) for name in ("q", "k")]
    net.node("MatMul", net.node("Sigmoid", net.node("Add", *two)), net.weight(256, 256), name="out", out="y")
    return net.model([("ids", builders.I64, ["n", "t"])], [("y", builders.F, ["n", "t", 256])], opset=17)


def quantized(model: ir.Model) -> ir.Model:
    return Pipeline(parse("quantize-dynamic")).run(model, Context(target_of("x86-vnni"))).model


def test_conversions_belong_to_the_layers_that_need_them() -> None:
    model = attention()
    graph = optimized_model(quantized(model), Runtime())
    names = LayerNames(model, graph)
    found = {
        node.op_type: _needing(graph, node.name or "", names) for node in graph.graph if node.op_type in CONVERSIONS
    }
    assert found == {"DequantizeLinear": ["look_up"], "DynamicQuantizeLinear": ["q", "k"]}
    assert _needing(graph, "no node of it", names) == []


def test_the_times_of_layers_hold_those_of_their_conversions() -> None:
    model = attention()
    made, feeds = quantized(model), {"ids": np.zeros((4, 64), np.int64)}
    with_them, without = (layer_times_ms(model, made, feeds, Runtime(), conversions=given) for given in (True, False))
    # Rows that were looked up in bytes are copied at once, and turned to floats number by number.
    assert with_them["look_up"] > 1.5 * without["look_up"]


def test_waiting_for_the_processor_in_most_runs_does_not_lengthen_a_layer() -> None:
    # A long kernel beside four programs, and a short one, as a profile of 24 runs shows them.
    long, short = [2000] * 8 + [14000] * 16, [200] * 22 + [12200] * 2
    for order in (long, long[::-1]):
        assert _undisturbed(order) == pytest.approx(2000)
    assert _undisturbed(long) / _undisturbed(short) == pytest.approx(10)
    assert _undisturbed([7]) == 7


def test_a_disturbed_profile_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([{"a": 9.0, "b": 1.0}, {"a": 2.0, "b": 8.0}, *[{"a": 2.5, "b": 1.5}] * 2])
    seen = list[bool]()

    def profiled(*_: Any, conversions: bool) -> Mapping[str, float]:
        seen.append(conversions)
        return next(times)

    monkeypatch.setattr(layer_times, "layer_times_ms", profiled)
    monkeypatch.setattr(layer_times, "fastest_ms", lambda *_: [6.0])
    model = attention()
    assert LayerTimes(None, Runtime()).of([TimedForm(model, model)], {}, conversions=True) == [{"a": 4.0, "b": 2.0}]
    assert seen == [True] * 4


def test_a_model_that_takes_long_is_profiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([{"a": 1.0}])
    monkeypatch.setattr(layer_times, "layer_times_ms", lambda *_, **__: next(times))
    monkeypatch.setattr(layer_times, "fastest_ms", lambda *_: [1.0])
    monkeypatch.setattr(layer_times, "_SECONDS", -1.0)
    model = attention()
    assert LayerTimes(None, Runtime()).of([TimedForm(model, model)], {}) == [{"a": 1.0}]
