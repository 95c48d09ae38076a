"""Pruning in rounds: the goal is met, and what is gone stays gone."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import catalog
from onnxopt.graph.layers import anatomy_of
from onnxopt.graph.weights.sparsity import weights_of
from onnxopt.model_file import load
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from tests import builders

MODELS = Path(__file__).parents[2] / "models"


def run(teacher: ir.Model, text: str, count: int = 48) -> Optimized:
    context = Context(target_of("x86-vnni"), builders.samples_of(teacher, count), teacher=teacher, seed=0)
    return Pipeline(catalog.parse(text)).run(teacher, context)


def distance(student: ir.Model, teacher: ir.Model) -> float:
    feeds = builders.feeds_of(teacher, seed=7, batch=64)
    one, other = (builders.run(m, feeds)[0] for m in (student, teacher))
    return float(((one - other) ** 2).mean() / other.var())


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_layer_has_exactly_the_zeros_requested(rounds: int) -> None:
    model = builders.residual_cnn()
    done = run(model, f"prune-gradually{{sparsity=0.6,rounds={rounds},steps=4}}")
    assert len(done.steps[0].edits) == rounds
    weights, _ = weights_of(done.model)
    assert weights
    for weight in weights:
        array = weight.value.const_value.numpy()
        assert abs(array.size - np.count_nonzero(array) - 0.6 * array.size) <= 1


def test_the_schedule_is_cubic() -> None:
    done = run(builders.residual_cnn(), "prune-gradually{sparsity=0.8,rounds=4,steps=1}")
    shares = [float(e.action.split(" %")[0].split("%")[0]) for e in done.steps[0].edits]
    assert shares == pytest.approx([100 * 0.8 * (1 - (1 - t / 4) ** 3) for t in (1, 2, 3, 4)], abs=0.05)


def test_channels_go_until_the_work_is_what_was_requested() -> None:
    model = load(MODELS / "digits_resnet.onnx")
    done = run(model, "prune-gradually{macs=0.6,rounds=2,steps=4,round_to=1}")
    assert len(done.steps[0].edits) == 2
    left = anatomy_of(done.model).macs / anatomy_of(model).macs
    assert 0.5 < left <= 0.6


def test_training_in_between_brings_it_closer_to_the_teacher() -> None:
    model = builders.residual_cnn()
    at_once = run(model, "prune-weights{ratio=0.6}").model
    done = run(model, "prune-gradually{sparsity=0.6,rounds=2,steps=40,lr=0.005}", 96)
    assert distance(done.model, model) < 0.7 * distance(at_once, model)
    assert done.steps[0].curve
