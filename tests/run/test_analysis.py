"""What explains a run, measured on real models."""

import weakref

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.measure.runtime.interrupt import cut_when
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.model_file import load, signature_of
from onnxopt.record.graph_record import graph_record
from onnxopt.run.analysis import analyze
from onnxopt.run.predictions import Answers, answers, changed_samples, per_class
from onnxopt.run.ranges import clipping
from onnxopt.samples import open_samples
from onnxopt.search.parts import split_parts
from onnxopt.tasks.quantize import quantize
from tests.conftest import MODELS


@pytest.fixture(scope="module")
def models():
    original = load(MODELS / "digits_mlp.onnx")
    made = quantize(original, data="digits", target="x86-vnni")
    return original, made.optimized.model


@pytest.fixture(scope="module")
def parts(models):
    return split_parts(open_samples("digits", signature_of(models[0]), limit=120), None, 0)


def test_layers_ranges_classes_and_graphs_are_measured(models, parts):
    found = analyze(*models, parts, metric_of("top1"), runtime=Runtime(), batch_size=1)
    assert found.problems == ()
    quantized = [layer for layer in found.layers if layer.op_type == "MatMul"]
    assert len(quantized) == 3
    assert all(layer.before_ms > 0 and layer.after_ms > 0 and layer.runs_as == "QGemm" for layer in quantized)
    assert found.samples == len(parts.holdout)
    assert found.classes.labelled
    assert sum(found.classes.samples) == found.samples
    assert all(sum(row) <= n for row, n in zip(found.classes.after, found.classes.samples, strict=True))
    assert len(found.before.nodes) == sum(node.op_type != "Constant" for node in models[0].graph)
    assert len(found.ranges) >= 2


def test_the_original_alone_is_explained_too(models, parts):
    found = analyze(models[0], None, parts, None, runtime=Runtime(), batch_size=1)
    assert found.problems == ()
    assert found.after is None
    assert found.classes is None
    assert found.layers[0].after_ms is None


def test_a_part_that_fails_is_named_and_costs_nothing_else(models, parts, monkeypatch):
    def fail(*_):
        raise RuntimeError("no profile today")

    monkeypatch.setattr("onnxopt.run.analysis.profile", fail)
    found = analyze(*models, parts, metric_of("top1"), runtime=Runtime(), batch_size=1)
    assert found.layers == ()
    assert "time by layer: no profile today" in found.problems[0]
    assert found.classes is not None


def test_an_interrupt_keeps_what_is_known(models, parts, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.run.analysis.clipping", interrupted)
    found = analyze(*models, parts, metric_of("top1"), runtime=Runtime(), batch_size=1)
    assert found.layers
    assert found.classes is None
    assert found.problems == ("ranges and later parts: interrupted",)


def test_the_end_of_the_time_limit_keeps_what_is_known(models, parts, monkeypatch):
    over = []
    monkeypatch.setattr("onnxopt.run.analysis.clipping", lambda *_: over.append(True))
    with cut_when(lambda: bool(over)):
        found = analyze(*models, parts, metric_of("top1"), runtime=Runtime(), batch_size=1)
    assert found.layers
    assert found.classes is None
    assert found.problems == ("answers by class and later parts: left out, because the time limit was reached",)


def test_values_outside_a_range_are_counted(models, parts):
    original, made = models
    wide = {row.tensor: row for row in clipping(original, made, parts.search, Runtime())}
    narrow = made.clone()
    node = next(n for n in narrow.graph if n.op_type == "QuantizeLinear" and n.inputs[0] in narrow.graph.inputs)
    scale = ir.convenience.get_const_tensor(node.inputs[1]).numpy()
    node.replace_input_with(1, ir.val("tight", const_value=ir.tensor(np.float32(scale / 4), name="tight")))
    narrow.graph.initializers["tight"] = node.inputs[1]
    tight = {row.tensor: row for row in clipping(original, narrow, parts.search, Runtime())}
    name = node.inputs[0].name
    assert wide[name].clipped < 0.01
    pixels = np.concatenate([next(iter(feeds.values())).ravel() for feeds in parts.search])
    step = float(scale) / 4
    expected = np.mean((pixels > tight[name].high + step / 2) | (pixels < tight[name].low - step / 2))
    assert expected > 0.05
    assert tight[name].clipped == pytest.approx(expected)


def test_of_all_values_with_a_range_one_is_in_memory_at_a_time(models, parts, monkeypatch):
    held = []

    def seen(_, array, *range_of):
        held.append(weakref.ref(array))
        assert sum(one() is not None for one in held) <= 2  # this one, and the one before

    monkeypatch.setattr("onnxopt.run.ranges._see", seen)
    rows = clipping(*models, parts.search.take(3), Runtime())
    assert len(held) == 3 * len(rows) > 3


def test_answers_name_samples_of_the_data(models, parts):
    original, made = models
    found = answers(original, made, parts.holdout, metric_of("top1"), Runtime())
    assert found.samples == tuple(parts.holdout.indices)
    assert found.labels == tuple(str(label) for label in parts.holdout.labels)
    right = np.mean([a == b for a, b in zip(found.labels, found.before, strict=True)])
    assert right > 0.9


def test_changes_and_confusion_are_counted():
    found = Answers((7, 8, 9, 10), ("a", "b", "b", "a"), ("a", "b", "a", "a"), ("b", "b", "b", "a"))
    rows, count = changed_samples(found)
    assert count == 2
    assert [(r.sample, r.label, r.before, r.after) for r in rows] == [(7, "a", "a", "b"), (9, "b", "a", "b")]
    classes = per_class(found)
    assert classes.labels == ("a", "b")
    assert classes.samples == (2, 2)
    assert classes.before == ((2, 0), (1, 1))
    assert classes.after == ((1, 1), (0, 2))


def test_without_labels_the_original_is_the_truth():
    classes = per_class(Answers((0, 1), None, ("10", "9"), ("9", "9")))
    assert not classes.labelled
    assert classes.labels == ("9", "10")
    assert classes.after == ((1, 0), (1, 0))


def test_models_without_classes_have_no_answers(parts):
    image = ir.val("image", ir.DataType.FLOAT, [None, 1, 8, 8])
    relu = ir.node("Relu", [image], outputs=[ir.val("y", ir.DataType.FLOAT, [None, 1, 8, 8])])
    graph = ir.Graph([image], relu.outputs, nodes=[relu], opset_imports={"": 18}, name="g")
    model = ir.Model(graph, ir_version=9)
    samples = open_samples({"image": np.zeros((9, 1, 8, 8), np.float32)}, signature_of(model))
    assert answers(model, model, samples, None, Runtime()) is None


def test_edges_of_a_graph_point_back(models):
    for model in models:
        for index, node in enumerate(graph_record(model).nodes):
            assert all(start < index for start in node.inputs)
