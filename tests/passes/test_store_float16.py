"""Weights in half the bytes, which the runtime turns back before it runs."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.passes.float16 import store_float16
from onnxopt.passes.float16.store_float16 import StoreFloat16
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net


def net_of(*weights: np.ndarray, opset: int = 17) -> ir.Model:
    net = Net(70)
    x = "x"
    for number, weight in enumerate(weights):
        out = "y" if number == len(weights) - 1 else None
        x = net.node("MatMul", x, net.const(weight.astype(np.float32), f"w{number}"), out=out, name=f"fc{number}")
    return net.model([("x", F, ["batch", len(weights[0])])], [("y", F, ["batch", weights[-1].shape[1]])], opset=opset)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape) * scale


def run(model: ir.Model, **options) -> tuple[ir.Model, Step]:
    result = Pipeline((StoreFloat16(**options),)).run(model, Context(target_of("x86-vnni")))
    return result.model, result.steps[0]


def run_spec(spec: str, model: ir.Model) -> ir.Model:
    return Pipeline(parse(spec)).run(model, Context(target_of("x86-vnni"))).model


def stored(model: ir.Model) -> set[str]:
    return {name for name, v in model.graph.initializers.items() if v.const_value.dtype is ir.DataType.FLOAT16}


def test_the_file_is_half_as_large_and_rounds_as_float16_does() -> None:
    model = net_of(normal(64, 96), normal(96, 32))
    result, step = run(model)
    assert stored(result) == {"w0_float16", "w1_float16"}
    assert model_file.size_bytes(result) < 0.55 * model_file.size_bytes(model)
    assert [edit.target for edit in step.edits] == ["w0", "w1", "graph"]
    feeds = builders.feeds_of(model)
    rounded = net_of(*(normal(*s).astype(np.float16) for s in ((64, 96), (96, 32))))
    for optimized in (False, True):
        wanted, got = builders.run(rounded, feeds, optimized), builders.run(result, feeds, optimized)
        assert numerics.largest_difference(wanted, got) < numerics.EXACT_RELATIVE


def test_the_runtime_folds_the_conversion() -> None:
    model = net_of(normal(64, 96), normal(96, 32))
    ran, before = (optimized_model(m, Runtime()) for m in (run(model)[0], model))
    assert [node.op_type for node in ran.graph] == [node.op_type for node in before.graph]
    assert not stored(ran)


def test_what_the_runtime_does_not_fold_stays(monkeypatch) -> None:
    unfolded = store_float16.optimized_model

    def lazy(model, runtime):
        return unfolded(model, Runtime(optimization="none"))

    monkeypatch.setattr(store_float16, "optimized_model", lazy)
    model = net_of(normal(64, 96))
    result, step = run(model)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert [skip.reason for skip in step.skipped] == ["the runtime does not fold its conversion"]


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (normal(32, 32) * np.where(np.eye(32), 1e6, 1), "float16 cannot hold"),
        (normal(32, 32, scale=1e-7), "too small"),
        (normal(4, 4), "fewer than 256"),
    ],
)
def test_what_float16_cannot_hold_stays(weight: np.ndarray, reason: str) -> None:
    model = net_of(weight, normal(weight.shape[1], 64))
    result, step = run(model)
    assert "w0_float16" not in stored(result)
    assert any(reason in skip.reason for skip in step.skipped)


def test_scales_of_products_in_integers_stay() -> None:
    model = run_spec("quantize-weights{bits=4,method=rtn}", net_of(normal(64, 512), normal(512, 32)))
    result, step = run(model)
    assert {s.reason for s in step.skipped if "scale" in s.target} == {
        "a product in integers reads it, and needs constant scales"
    }
    feeds = builders.feeds_of(model)
    for optimized in (False, True):
        wanted, got = builders.run(model, feeds, optimized), builders.run(result, feeds, optimized)
        assert numerics.largest_difference(wanted, got) < numerics.EXACT_RELATIVE


def test_excluded_layers_stay() -> None:
    result, step = run(net_of(normal(64, 96), normal(96, 32)), exclude=("fc0",))
    assert stored(result) == {"w1_float16"}
    assert [(s.target, s.reason) for s in step.skipped] == [("w0", "excluded by name")]
    with pytest.raises(UsageError):
        run(net_of(normal(64, 96)), exclude=("fc7",))


def test_a_weight_of_two_layers_is_stored_once() -> None:
    net = Net(71)
    weight = net.const(normal(32, 32).astype(np.float32), "shared")
    net.node("MatMul", net.node("MatMul", "x", weight), weight, out="y")
    result, _ = run(net.model([("x", F, ["batch", 32])], [("y", F, ["batch", 32])]))
    assert stored(result) == {"shared_float16"}
    assert sum(node.op_type == "Cast" for node in result.graph) == 1


def test_weights_that_a_subgraph_reads() -> None:
    net = Net(72)
    weight = net.const(normal(32, 32).astype(np.float32), "captured")
    inner = Net(73, "then_")
    inner.node("MatMul", "x", weight, out="then_y")
    other = Net(74, "else_")
    other.node("Identity", "x", out="else_y")
    branches = {
        f"{name}_branch": builders.helper.make_graph(
            branch.nodes, name, [], [builders.helper.make_tensor_value_info(f"{name}_y", F, ["batch", 32])]
        )
        for name, branch in (("then", inner), ("else", other))
    }
    net.node("If", net.const(np.array(True)), out="y", **branches)
    model = net.model([("x", F, ["batch", 32])], [("y", F, ["batch", 32])])
    result, step = run(model)
    assert [edit.target for edit in step.edits] == ["captured", "graph"]
    feeds = builders.feeds_of(model)
    before, after = builders.run(model, feeds), builders.run(result, feeds)
    assert numerics.largest_difference(before, after) < numerics.HALF_RELATIVE
