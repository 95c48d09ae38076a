"""Values in graph order are those of the whole model, and no layer is computed again for each later one."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.graph.edit import set_weight
from onnxopt.measure.runtime import stages
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.session import Session
from onnxopt.measure.runtime.stages import Stages
from onnxopt.model_file import from_proto
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from tests import builders, numerics

NAMES = ["residual_cnn", "depthwise_separable", "transformer_17", "gemm_mlp", "shared_weights", "data_movement"]
LAYERS = ("Conv", "Gemm", "MatMul")
MANY = stages.WORTH_NODES
"""Number of values from which on every graph is large."""


def quantized(name: str) -> ir.Model:
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=8))
    return Pipeline(parse("simplify,quantize-static")).run(model, context).model


def layers_of(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in LAYERS]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of nodes of each model that is loaded."""
    seen = list[int]()

    class Counting(Session):
        def __init__(self, model: ir.Model, *more: object) -> None:
            seen.append(len(model.graph))
            super().__init__(model, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "Session", Counting)
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_values_of_quantized_layers_are_those_of_the_whole_model(name: str, sizes: list[int]) -> None:
    model = quantized(name)
    samples = builders.samples_of(model, 6, batch_size=2)
    runs, layers = Stages(model, lambda: samples, MANY), layers_of(model)
    assert layers
    for node in layers:
        value = node.outputs[0].name or ""
        found, whole = list(runs.of(value)), list(Activations(model, [value]).of(samples))
        assert len(found) == 3
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one, other[value])
    assert len(sizes) == len(layers)
    assert sum(sizes) < 3 * len(model.graph)


@pytest.mark.parametrize("name", NAMES)
def test_values_of_float_layers_are_those_of_the_whole_model(name: str) -> None:
    model = builders.BUILDERS[name]()
    samples = builders.samples_of(model, 6, batch_size=2)
    runs = Stages(model, lambda: samples, MANY)
    for node in model.graph:
        value = node.outputs[0].name or ""
        whole = (arrays[value] for arrays in Activations(model, [value]).of(samples))
        assert numerics.largest_difference(list(runs.of(value)), list(whole)) <= numerics.EXACT_RELATIVE


def test_weights_may_change_from_the_last_value_on() -> None:
    model = quantized("residual_cnn")
    samples = builders.samples_of(model, 4, batch_size=2)
    runs = Stages(model, lambda: samples, MANY)
    for node in layers_of(model):
        value, dequantized = node.outputs[0].name or "", node.inputs[1]
        assert dequantized is not None
        whole = [arrays[value] for arrays in Activations(model, [value]).of(samples)]
        np.testing.assert_array_equal(np.stack(list(runs.of(value))), np.stack(whole))
        producer = dequantized.producer()
        scale = None if producer is None else producer.inputs[1]
        if scale is not None and scale.const_value is not None:
            set_weight(scale, scale.const_value.numpy() * np.float32(1.5))


@pytest.mark.parametrize("name", ["if_branches", "nested_capture", "with_function"])
def test_graphs_with_others_inside_are_run_whole(name: str, sizes: list[int]) -> None:
    model = builders.BUILDERS[name]()
    samples = builders.samples_of(model, 4, batch_size=2)
    runs = Stages(model, lambda: samples, MANY)
    for value in (node.outputs[0].name or "" for node in model.graph):
        whole = [arrays[value] for arrays in Activations(model, [value]).of(samples)]
        assert numerics.largest_difference(list(runs.of(value)), whole) <= numerics.EXACT_RELATIVE
    assert not sizes


def test_values_before_the_last_one_and_those_of_a_part_that_fails_come_from_the_whole(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    model = quantized("gemm_mlp")
    samples = builders.samples_of(model, 4, batch_size=2)
    first, *_, last = (node.outputs[0].name or "" for node in layers_of(model))
    expected = [arrays[first] for arrays in Activations(model, [first]).of(samples)]
    runs = Stages(model, lambda: samples, MANY)
    list(runs.of(last))
    assert len(sizes) == 1
    np.testing.assert_array_equal(np.stack(list(runs.of(first))), np.stack(expected))
    assert len(sizes) == 1

    def refuse(*_: object) -> None:
        raise stages.ModelError("ONX304", "refused")

    monkeypatch.setattr(stages, "Session", refuse)
    again = Stages(model, lambda: samples, MANY)
    np.testing.assert_array_equal(np.stack(list(again.of(first))), np.stack(expected))


def test_above_the_limit_earlier_values_stay(sizes: list[int]) -> None:
    model = quantized("residual_cnn")
    samples = builders.samples_of(model, 4, batch_size=2)
    runs, layers = Stages(model, lambda: samples, MANY, limit_bytes=1), layers_of(model)
    for node in layers:
        value = node.outputs[0].name or ""
        whole = [arrays[value] for arrays in Activations(model, [value]).of(samples)]
        np.testing.assert_array_equal(np.stack(list(runs.of(value))), np.stack(whole))
    assert sizes == sorted(sizes)  # each part begins at the inputs
    assert sizes[-1] > len(model.graph) // 2


def test_a_small_graph_is_run_whole(sizes: list[int]) -> None:
    model = quantized("gemm_mlp")
    samples, layers = builders.samples_of(model, 4, batch_size=2), layers_of(model)
    for count, parts in ((stages.WORTH_NODES // len(model.graph), 0), (stages.WORTH_NODES // len(model.graph) + 1, 1)):
        list(Stages(model, lambda: samples, count).of(layers[0].outputs[0].name or ""))
        assert len(sizes) == parts


def test_a_sequence_is_not_kept() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[2, 4] y)
        <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, int64 zero = {0}> {
            s = SplitToSequence <axis = 0> (x) a = MatMul(x, w) b = MatMul(a, w)
            first = SequenceAt(s, zero) sum = Add(first, b) y = MatMul(sum, w) }"""
    model = from_proto(onnx.parser.parse_model(text))
    batches = [{"x": np.full((2, 4), value, np.float32)} for value in (1, 2)]
    runs = Stages(model, lambda: batches, MANY)
    for value in ("a", "b", "y"):
        whole = [arrays[value] for arrays in Activations(model, [value]).of(batches)]
        np.testing.assert_array_equal(np.stack(list(runs.of(value))), np.stack(whole))
