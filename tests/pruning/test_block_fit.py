"""Linear maps take the place of blocks where they are closer, and nowhere else."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.blocks.find import blocks_of
from onnxopt.graph.edit import name_nodes
from onnxopt.model_file import signature_of
from onnxopt.passes import prune_blocks
from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.pruning.block_fit import FittedBlocks, fit_maps
from onnxopt.samples import Samples, open_samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import CLASSES, ROWS, Net

RNG = np.random.default_rng(0)
MATRIX = (RNG.standard_normal((8, 8)) / 3).astype(np.float32)


def residual(*weights: np.ndarray) -> ir.Model:
    """Return a product, and behind it blocks x + x W, the last of which gives the output."""
    net = Net(1)
    x = net.node("MatMul", "x", net.weight(8, 8), name="head")
    for number, weight in enumerate(weights):
        branch = net.node("MatMul", x, net.const(weight.astype(np.float32)), name=f"block{number}")
        x = net.node("Add", x, branch, out="y" if number == len(weights) - 1 else None)
    return net.model([ROWS], [("y", *ROWS[1:])], opset=13)


def rows(model: ir.Model, numbers: np.ndarray, batch_size: int = 8) -> Samples:
    return open_samples({"x": numbers.astype(np.float32)}, signature_of(model)).with_batch_size(batch_size)


def normal(model: ir.Model, count: int = 80) -> Samples:
    return rows(model, np.random.default_rng(5).standard_normal((count, 8)))


def pruned(model: ir.Model, samples: Samples, **options: Any) -> Optimized:
    return Pipeline((PruneBlocks(**options),)).run(model, Context(target_of("x86-vnni"), samples))


def actions(result: Optimized) -> str:
    return "\n".join(e.action for e in result.steps[0].edits)


def reasons(result: Optimized) -> dict[str, str]:
    return {s.target: s.reason for s in result.steps[0].skipped}


def distance(model: ir.Model, result: Optimized) -> float:
    feeds = builders.feeds_of(model, batch=4)
    return float(numerics.largest_difference(builders.run(model, feeds), builders.run(result.model, feeds)))


@pytest.mark.parametrize(
    ("method", "weights"),
    [("ls", (MATRIX, MATRIX.T)), ("affine", (np.diag(RNG.uniform(0.2, 1, 8)), np.diag(RNG.uniform(-1, 0.5, 8))))],
)
def test_a_linear_branch_is_recovered(method: str, weights: tuple[np.ndarray, ...]) -> None:
    model = residual(*weights)
    result = pruned(model, normal(model), ratio=1, compensate=method)
    assert distance(model, pruned(model, normal(model), ratio=1, compensate="none")) > 0.1
    assert distance(model, result) < 0.01
    assert "linear map in its place: " in actions(result)
    names = [node.name for node in result.model.graph]
    assert not any(name in names for name in ("block0", "block1"))
    assert len(result.model.graph.initializers) == 2 * 2 + 1


def test_factors_per_channel_cannot_mix_channels() -> None:
    model = residual(MATRIX)
    mixed, scaled = (pruned(model, normal(model), ratio=1, compensate=method) for method in ("ls", "affine"))
    assert distance(model, mixed) < distance(model, scaled)
    assert [n.op_type for n in scaled.model.graph] in (["MatMul"], ["MatMul", "Mul", "Add"])


def test_the_place_of_a_block_of_convolutions_is_taken_by_a_pointwise_one() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples = builders.samples_of(model, count=40)
    plain, fitted = (pruned(model, samples, count=1, compensate=method) for method in ("none", "ls"))
    new = [n for n in fitted.model.graph if n.name not in {p.name for p in plain.model.graph}]
    (weight,) = [n.inputs[1] for n in new if n.op_type == "Conv"]
    assert weight is not None
    assert weight.const_value is not None
    assert list(weight.const_value.shape.numpy())[2:] == [1, 1]
    assert distance(model, fitted) < distance(model, plain)


def test_later_maps_make_up_for_earlier_ones() -> None:
    net, x = Net(2), "x"
    for number in range(2):
        inner = net.node("Relu", net.node("MatMul", x, net.const(MATRIX), name=f"block{number}"))
        x = net.node("Add", x, inner)
    net.node("MatMul", x, net.weight(8, 4), out="y", name="head")
    model = net.model([ROWS], [CLASSES], opset=13)
    samples = normal(model, 400)
    name_nodes(model)
    blocks, _ = blocks_of(model)
    assert len(blocks) == 2
    first, both = fit_maps(model, blocks[:1], samples, "ls"), fit_maps(model, blocks, samples, "ls")
    alone = fit_maps(model, blocks[1:], samples, "ls")
    # The second map reads what the first one gives, so it is another than that behind the original block.
    (late,), (early,) = ([f.errors[blocks[1].name]] for f in (both, alone))
    assert first.errors[blocks[0].name] == both.errors[blocks[0].name]
    assert late != early


def test_a_map_that_is_no_closer_on_samples_held_out_is_left_out() -> None:
    net = Net(3)
    branch = net.node("MatMul", net.node("Abs", "x"), net.const(np.eye(8, dtype=np.float32)), name="block")
    net.node("MatMul", net.node("Add", "x", branch), net.weight(8, 4), out="y", name="head")
    model = net.model([ROWS], [CLASSES], opset=13)
    numbers = np.abs(np.random.default_rng(1).standard_normal((40, 8)))
    numbers[8:16] *= -1  # the second batch of five is held out
    result = pruned(model, rows(model, numbers), ratio=1)
    assert "linear map" not in actions(result)
    assert "no linear map is closer on samples held out" in str(reasons(result))
    assert [n.name for n in result.model.graph] == ["head"]


def test_maps_that_make_the_outputs_worse_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual(0.01 * MATRIX, MATRIX)

    def wrong(model: ir.Model, *rest: Any) -> FittedBlocks:
        fitted = fit_maps(model, *rest)
        for node in fitted.model.graph:
            if node.op_type == "Add":
                value = node.inputs[1]
                assert value is not None
                value.const_value = ir.tensor(np.full(8, 50, np.float32), name=value.name)
        return fitted

    monkeypatch.setattr(prune_blocks, "fit_maps", wrong)
    result = pruned(model, normal(model), count=1)
    assert [n.name for n in result.model.graph if n.op_type == "MatMul"] == ["head", "block1"]
    assert reasons(result)["graph"] == "linear maps in the place of the blocks do not bring the outputs closer"


def test_a_sum_of_three_gets_none_and_the_others_do() -> None:
    net = Net(4)
    extra = net.node("Relu", "x")
    wide = net.node("Sum", "x", extra, net.node("MatMul", "x", net.const(MATRIX), name="wide"))
    total = net.node("Add", wide, net.node("MatMul", wide, net.const(MATRIX), name="plain"))
    net.node("MatMul", total, net.weight(8, 4), out="y", name="head")
    model = net.model([ROWS], [CLASSES], opset=13)
    result = pruned(model, normal(model), ratio=1)
    assert "no linear map in its place: the block is no operand of a sum of two" in str(reasons(result))
    assert "linear map in its place" in actions(result)
    builders.run(result.model, builders.feeds_of(model))


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_builder_model_runs_with_maps(name: str, samples: bool) -> None:
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model) if samples else None)
    result = Pipeline((PruneBlocks(ratio=1, compensate="affine" if samples else "ls"),)).run(model, context)
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    shapes = [getattr(f, "shape", None) for f in builders.run(result.model, feeds)]
    assert shapes == [getattr(f, "shape", None) for f in builders.run(model, feeds)]
