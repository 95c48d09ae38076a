"""Rows of padding that are NaN inside a model: they say nothing of what may be pruned."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.model_file import signature_of
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.samples import Samples
from onnxopt.samples.open import open_samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net

TIME, WIDTH, PADDED = 4, 8, 3


def pooled() -> ir.Model:
    """Return layers behind a mean over the steps that are there: of none it is NaN."""
    net = Net(3)
    there = net.node("Unsqueeze", net.node("Cast", "mask", to=F), net.ints(2))
    total = net.node("ReduceSum", net.node("Mul", "x", there), net.ints(1), keepdims=0)
    mean = net.node("Div", total, net.node("ReduceSum", there, net.ints(1), keepdims=0))
    mean = net.node("MatMul", mean, net.weight(WIDTH, 32), name="first")
    hidden = net.node("Relu", net.node("MatMul", net.node("Relu", mean), net.weight(32, 32), name="second"))
    net.node("MatMul", hidden, net.weight(32, 4), name="last", out="y")
    return net.model([("x", F, ["N", TIME, WIDTH]), ("mask", 9, ["N", TIME])], [("y", F, ["N", 4])], opset=13)


def samples(model: ir.Model, padded: int) -> Samples:
    x = np.random.RandomState(1).standard_normal((64, TIME, WIDTH)).astype(np.float32)
    mask = np.ones((64, TIME), bool)
    mask[5 : 5 + padded] = False
    return open_samples({"x": x, "mask": mask}, signature_of(model))


def pruned(padded: int, spec: str) -> tuple[Step, float]:
    """Return what was done, and the SQNR on samples without padding."""
    model = pooled()
    made = Pipeline(parse(spec)).run(model, Context(target_of("x86-vnni"), samples(model, padded)))
    whole = samples(model, 0)
    before, after = (np.concatenate([builders.run(m, dict(f))[0] for f in whole]) for m in (model, made.model))
    return made.steps[0], numerics.sqnr_db(before, after)


@pytest.mark.parametrize("scope", ["global", "local"])
def test_channels_are_chosen_and_made_up_for_as_if_they_were_not_there(scope: str) -> None:
    spec = f"prune-channels{{ratio=0.25,round_to=1,scope={scope}}}"
    (_, clean), (step, db) = pruned(0, spec), pruned(PADDED, spec)
    assert abs(clean - db) < 1.5
    assert any(f"{PADDED} rows" in skip.reason for skip in step.skipped)


def test_weights_are_scored_by_the_rows_that_are_numbers() -> None:
    spec = "prune-weights{ratio=0.5,importance=wanda}"
    (_, clean), (_, db) = pruned(0, spec), pruned(PADDED, spec)
    assert abs(clean - db) < 1.5
