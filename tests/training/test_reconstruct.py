"""Blocks that learn from the original's, with and without channels that are gone."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import catalog
from onnxopt.graph.cut_points import cut_points
from onnxopt.graph.edit import set_weight
from onnxopt.model_file import load, to_bytes
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from onnxopt.training.channel_match import match
from tests import builders

SAMPLES = 96
MODELS = Path(__file__).parents[2] / "models"


def run(student: ir.Model, teacher: ir.Model, text: str) -> Optimized:
    samples = builders.samples_of(teacher, SAMPLES)
    context = Context(target_of("x86-vnni"), samples, teacher=teacher, seed=0)
    return Pipeline(catalog.parse(text)).run(student, context)


def disturbed(model: ir.Model, share: float) -> ir.Model:
    """Return a copy with noise of `share` of each matrix or filter added, and its smallest third set to zero."""
    copy, rng = model.clone(), np.random.default_rng(0)
    for value in copy.graph.initializers.values():
        array = value.const_value.numpy()
        if array.ndim > 1:
            noisy = (array + share * array.std() * rng.standard_normal(array.shape)).astype(np.float32)
            noisy[np.abs(noisy) < np.quantile(np.abs(noisy), 1 / 3)] = 0
            set_weight(value, noisy)
    return copy


def distance(student: ir.Model, teacher: ir.Model) -> float:
    feeds = builders.feeds_of(teacher, seed=7, batch=64)
    one, other = (builders.run(m, feeds)[0] for m in (student, teacher))
    return float(((one - other) ** 2).mean() / other.var())


def test_cut_points_are_where_blocks_end() -> None:
    model = builders.residual_cnn()
    ops = [[next(n.op_type for n in model.graph if n.outputs[0].name == v) for v in g] for g in cut_points(model)]
    assert ops == [["Conv", "BatchNormalization", "Relu"], ["Add", "Relu", "GlobalAveragePool", "Flatten"]]


def test_blocks_come_closer_to_the_original_and_zeros_stay() -> None:
    teacher = builders.residual_cnn()
    student = disturbed(teacher, 0.3)
    done = run(student, teacher, "reconstruct-blocks{steps=120,lr=0.005}")
    assert len(done.steps[0].edits) == 3
    assert distance(done.model, teacher) < 0.6 * distance(student, teacher)
    for name, value in student.graph.initializers.items():
        old, new = value.const_value.numpy(), done.model.graph.initializers[name].const_value.numpy()
        if old.ndim > 1:
            np.testing.assert_array_equal(new[old == 0], 0)


def test_channels_that_are_gone_are_found() -> None:
    teacher = load(MODELS / "digits_resnet.onnx")
    pruned = run(
        teacher, teacher, "prune-channels{ratio=0.4,round_to=1,scope=local,importance=l1,compensate=bias}"
    ).model
    done = run(pruned, teacher, "reconstruct-blocks{steps=60}")
    assert len(done.steps[0].edits) > 1
    assert distance(done.model, teacher) < distance(pruned, teacher)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_a_block_whose_values_are_not_finite_stays(number: float) -> None:
    model = builders.residual_cnn()
    bias = next(v for n in reversed(model.graph) if n.op_type == "Gemm" for v in n.inputs[2:])
    set_weight(bias, np.full_like(bias.const_value.numpy(), number))
    done = run(model, model, "reconstruct-blocks{steps=1}")
    assert "it gives values that are not finite" in [skip.reason for skip in done.steps[0].skipped]


def test_a_block_that_comes_no_closer_stays() -> None:
    teacher = builders.residual_cnn()
    student = disturbed(teacher, 0.3)
    done = run(student, teacher, "reconstruct-blocks{steps=3,lr=1e-12}")
    assert not done.steps[0].edits
    assert all("came no closer on held-out samples" in skip.reason for skip in done.steps[0].skipped)
    assert to_bytes(done.model) == to_bytes(student)


@pytest.mark.parametrize("kept", [[0, 1, 2], [1, 4, 5], [5], [0, 1, 2, 3, 4, 5]])
def test_match_finds_the_channels(kept: list[int]) -> None:
    rng = np.random.default_rng(1)
    wide = rng.standard_normal((16, 6, 4, 4))
    narrow = 0.8 * wide[:, kept] + 0.3 * rng.standard_normal((16, len(kept), 4, 4)) + 2
    found = match(narrow, wide)
    assert found is not None
    np.testing.assert_array_equal(found.of(wide), wide[:, kept])


def test_match_refuses_what_does_not_go_together() -> None:
    rng = np.random.default_rng(1)
    assert match(rng.standard_normal((64, 3, 8, 8)), rng.standard_normal((64, 6, 8, 8))) is None
    assert match(rng.standard_normal((2, 3)), rng.standard_normal((4, 3))) is None
    assert match(rng.standard_normal((4, 6)), rng.standard_normal((4, 3))) is None


def test_rounding_is_learned_within_one_integer() -> None:
    teacher = builders.residual_cnn()
    context = Context(target_of("x86-vnni"), builders.samples_of(teacher, SAMPLES), teacher=teacher, seed=0)
    start = Pipeline(catalog.parse("simplify,quantize-static,qat{weight_bits=4,steps=1,lr=1e-12}")).run(
        teacher, context
    )
    done = Pipeline(catalog.parse("reconstruct-blocks{rounding=true,steps=80}")).run(start.model, context)
    assert done.steps[0].edits, done.steps[0].skipped
    # What comes closer on held-out samples are the blocks; the outputs must not get much worse by it.
    assert distance(done.model, teacher) < 1.1 * distance(start.model, teacher)
    moved = 0
    for name, value in start.model.graph.initializers.items():
        old, new = value.const_value.numpy(), done.model.graph.initializers[name].const_value.numpy()
        if old.dtype == np.int8:
            assert np.abs(old.astype(int) - new).max() <= 1
            moved += int((old != new).sum())
        else:
            np.testing.assert_array_equal(old, new)
    assert moved
