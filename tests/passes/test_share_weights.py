"""Weights as codes of a palette: smaller files that the runtime runs as before."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.errors import UsageError
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.passes import share_weights
from onnxopt.passes.share_weights import ShareWeights
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.reconstruction.palette import palette_of
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net

FLOAT16 = int(ir.DataType.FLOAT16)


def net_of(weight: np.ndarray) -> ir.Model:
    net, kind = Net(80), {2: FLOAT16, 4: F}[weight.itemsize]
    net.node("MatMul", "x", net.const(weight, "w"), out="y", name="fc")
    return net.model([("x", kind, ["batch", len(weight)])], [("y", kind, ["batch", weight.shape[1]])])


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def run(model: ir.Model, **options) -> tuple[ir.Model, Step]:
    result = Pipeline((ShareWeights(**options),)).run(model, Context(target_of("x86-vnni")))
    return result.model, result.steps[0]


@pytest.mark.parametrize(("bits", "share"), [(8, 0.27), (4, 0.16), (2, 0.12)])
def test_the_file_gets_smaller_and_computes_with_the_palette(bits: int, share: float) -> None:
    weight = normal(128, 192)
    model = net_of(weight)
    result, step = run(model, bits=bits)
    assert model_file.size_bytes(result) < share * model_file.size_bytes(model)
    assert [edit.target for edit in step.edits] == ["w", "graph"]
    assert f"{model_file.size_bytes(model)} bytes to {model_file.size_bytes(result)}" in step.edits[-1].action
    feeds = builders.feeds_of(model)
    wanted = builders.run(net_of(palette_of(weight, 8 // bits).array().reshape(weight.shape)), feeds)
    for optimized in (False, True):
        assert numerics.largest_difference(wanted, builders.run(result, feeds, optimized)) < numerics.EXACT_RELATIVE


def test_the_runtime_looks_values_up_at_loading() -> None:
    model = net_of(normal(128, 192))
    ran = optimized_model(run(model)[0], Runtime())
    assert [node.op_type for node in ran.graph] == ["MatMul"]


def test_what_the_runtime_does_not_look_up_stays(monkeypatch) -> None:
    real = share_weights.optimized_model
    monkeypatch.setattr(share_weights, "optimized_model", lambda m, _: real(m, Runtime(optimization="none")))
    model = net_of(normal(128, 192))
    result, step = run(model)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert [skip.reason for skip in step.skipped] == ["the runtime does not look it up at loading"]


def test_an_error_that_is_allowed_decides_the_bits() -> None:
    model = net_of(normal(128, 192))
    for limit, bits in ((0.5, 2), (0.2, 4), (0.05, 8)):
        _, step = run(model, bits=2, max_error=limit)
        assert step.edits[0].action.startswith(f"{bits} bits")
    _, step = run(model, bits=2, max_error=1e-6)
    assert not step.edits
    assert "more than" in step.skipped[0].reason


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (normal(16, 16), "fewer than 512"),
        (normal(16, 40).astype(np.float16), "would not be smaller"),
        (np.where(np.eye(200, dtype=bool), np.float32(0.25), np.float32(0)), "when compressed"),
        (normal(64, 64) * np.where(np.eye(64), np.inf, 1).astype(np.float32), "not finite"),
    ],
)
def test_what_gets_no_smaller_stays(weight: np.ndarray, reason: str) -> None:
    model = net_of(weight)
    result, step = run(model)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert any(reason in skip.reason for skip in step.skipped)


def test_nodes_that_are_excluded_and_those_that_are_not_there() -> None:
    _, step = run(net_of(normal(128, 192)), exclude=("fc",))
    assert [skip.reason for skip in step.skipped] == ["excluded by name"]
    with pytest.raises(UsageError) as caught:
        run(net_of(normal(128, 192)), exclude=("fc9",))
    assert caught.value.code == "ONX102"


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_types_stay(kind: type) -> None:
    model = net_of(normal(128, 192).astype(kind))
    result, step = run(model)
    assert step.edits
    assert model_file.size_bytes(result) < model_file.size_bytes(model)
    assert builders.run(result, builders.feeds_of(model))[0].dtype == kind
