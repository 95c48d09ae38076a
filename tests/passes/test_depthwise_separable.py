"""Convolutions become sums of separable ones where that is faster, or say why not."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.errors import NativeError, UsageError
from onnxopt.measure.latency.latency_table import LatencyTable
from onnxopt.passes import depthwise_separable
from onnxopt.passes.depthwise_separable import DepthwiseSeparable
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.reconstruction import separable_timer
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net


def convnet(size: int = 8) -> ir.Model:
    """Two convolutions of 3 x 3 that two kernels per channel nearly tell, one of 1 x 1 and one with groups."""
    net = Net(50)
    x = net.conv("x", 3, 24, name="conv0")
    for number in (1, 2):
        kernels, mix = net.rng.standard_normal((24, 2, 9)), net.rng.standard_normal((24, 24, 2)) / 12
        weight = np.einsum("oit,itk->oik", mix, kernels) + 0.01 * net.rng.standard_normal((24, 24, 9))
        weight = net.const(weight.reshape(24, 24, 3, 3).astype(np.float32))
        x = net.node("Conv", net.node("Relu", x), weight, net.weight(24), pads=[1] * 4, name=f"conv{number}")
    x = net.conv(net.node("Relu", x), 24, 24, group=24, name="depthwise")
    x = net.node("Relu", net.conv(x, 24, 16, k=1, name="point"))
    net.pool_fc(x, 16, 4)
    return net.model([("x", F, ["batch", 3, size, size])], [builders.CLASSES])


def run(model: ir.Model, samples: Samples | None = None, **options) -> tuple[ir.Model, Step]:
    options = {"verify": False, "cache": False, **options}
    result = Pipeline((DepthwiseSeparable(**options),)).run(model, Context(target_of("x86-vnni"), samples))
    return result.model, result.steps[0]


def error(model: ir.Model, other: ir.Model, samples: Samples) -> float:
    before, after = (np.concatenate([builders.run(m, dict(f))[0] for f in samples]) for m in (model, other))
    return float(np.square(before - after).sum() / np.square(before - before.mean(0)).sum())


def test_layers_get_the_fewest_terms_for_the_error() -> None:
    model = convnet()
    result, step = run(model, exclude=("conv0",))
    told = {edit.target: edit.action for edit in step.edits}
    assert set(told) == {"conv1", "conv2"}
    assert all(action.startswith("2 kernels per channel") for action in told.values())
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE
    groups = [node.attributes["group"].as_int() for node in result.graph if "group" in node.attributes]
    assert groups.count(24) == 3
    reasons = {skip.target: skip.reason for skip in step.skipped}
    assert reasons["point"] == "its kernel is 1 x 1"
    assert "in groups" in reasons["depthwise"]
    assert reasons["conv0"] == "excluded by name"


def test_samples_make_the_sum_lose_less() -> None:
    model = convnet()
    samples = builders.samples_of(model, 64)
    plain, aware = (run(model, s, terms=1, exclude=("conv0",))[0] for s in (None, samples))
    assert error(model, aware, samples) < error(model, plain, samples)


def test_what_would_be_no_less_work_stays() -> None:
    model = convnet()
    result, step = run(model, terms=9)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert any("terms, with" in skip.reason for skip in step.skipped)


def table_by(dense_ms: float, sum_ms: float, monkeypatch) -> None:
    def clock(models, feeds, runtime):
        sums = [sum("pointwise" in name for name in m.graph.initializers) for m in models]
        return [sum_ms * n if n else dense_ms * len(m.graph.initializers) for n, m in zip(sums, models, strict=True)]

    table = LatencyTable(None, clock=clock, emulation=lambda: None)
    monkeypatch.setattr(separable_timer, "LatencyTable", lambda folder: table)


def test_a_layer_that_is_not_measured_to_be_faster_says_by_how_much(monkeypatch) -> None:
    table_by(1.0, 1.25, monkeypatch)
    model = convnet(32)
    result, step = run(model, terms=2, verify=True)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    reasons = {skip.target: skip.reason for skip in step.skipped}
    assert reasons["conv1"] == "not faster: with 2 terms it took 1.25 times its time"
    assert "so few MACs" in reasons["conv0"]


def test_layers_that_are_faster_are_kept_if_the_model_is(monkeypatch) -> None:
    table_by(1.0, 0.5, monkeypatch)
    monkeypatch.setattr(depthwise_separable, "time_share", lambda *_: (0.7, ""))
    _, step = run(convnet(32), terms=2, verify=True)
    assert {edit.target for edit in step.edits} == {"conv1", "conv2", "graph"}
    assert step.edits[-1].action == "measured time 70 % of the original"
    monkeypatch.setattr(depthwise_separable, "time_share", lambda *_: (1.1, ""))
    _, step = run(convnet(32), terms=2, verify=True)
    assert not step.edits
    assert sum("undone: the model took 1.10 times" in skip.reason for skip in step.skipped) == 2


def test_an_emulated_processor_separates_nothing(monkeypatch) -> None:
    def refuse(folder):
        raise NativeError("ONX403", "latency is not measured under emulation", why="QEMU")

    monkeypatch.setattr(separable_timer, "LatencyTable", refuse)
    _, step = run(convnet(32), terms=2, verify=True)
    assert not step.edits
    assert any(skip.reason == "not replaced, as it cannot be timed: QEMU" for skip in step.skipped)


def test_a_wrong_sum_is_not_kept(monkeypatch) -> None:
    real = depthwise_separable.replace_by_separable
    monkeypatch.setattr(depthwise_separable, "replace_by_separable", lambda m, n, d, p: real(m, n, d, 1.01 * p))
    model = convnet()
    result, step = run(model)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert any("its outputs differ" in skip.reason for skip in step.skipped)


def test_options_that_contradict_each_other_and_unknown_names() -> None:
    for options, code in (({"terms": 2, "max_error": 0.1}, "ONX109"), ({"exclude": ("conv9",)}, "ONX102")):
        with pytest.raises(UsageError) as caught:
            run(convnet(), **options)
        assert caught.value.code == code
