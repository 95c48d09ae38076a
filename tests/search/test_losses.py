"""Sensitivity is measured once, and again as soon as anything it depends on changed."""

from dataclasses import replace

import numpy as np
import pytest

from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context
from onnxopt.pruning.sensitivity import OutputError
from onnxopt.quantization.isa import target_of
from onnxopt.search import layer_table as tables
from onnxopt.search.evidence import evidence_key
from onnxopt.search.layer_table import layer_table
from onnxopt.search.losses import Losses
from tests import builders


@pytest.fixture
def model():
    return builders.BUILDERS["residual_cnn"]()


@pytest.fixture
def context(model):
    return Context(target_of("x86-vnni"), builders.samples_of(model, count=16))


def test_everything_it_depends_on_is_in_the_key(model, context):
    key = evidence_key(model, context)
    assert key == evidence_key(builders.BUILDERS["residual_cnn"](), context)
    other = builders.BUILDERS["residual_cnn"]()
    weight = next(v for v in other.graph.initializers.values() if v.const_value.size > 8)
    weight.const_value = builders.ir.tensor(weight.const_value.numpy() + np.float32(1), name=weight.name)
    assert context.calibration is not None
    keys = {
        key,
        evidence_key(other, context),
        evidence_key(model, context, "more"),
        evidence_key(model, replace(context, calibration=context.calibration.take(8))),
        evidence_key(model, replace(context, target=target_of("x86-avx2"))),
        evidence_key(model, replace(context, seed=1)),
    }
    assert len(keys) == 6
    assert evidence_key(model, replace(context, calibration=None)) is None


def test_a_loss_is_looked_up(model, context, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(OutputError, "of", lambda *_: calls.append(1) or 0.25)
    for _ in range(2):
        losses = Losses(model, OutputError(model, context.calibration), context, tmp_path)
        assert losses.of(QuantizeStatic()) == 0.25
    assert len(calls) == 1
    assert losses.of(QuantizeStatic(method="entropy")) == 0.25
    assert Losses(model, OutputError(model, context.calibration), context, None).of(QuantizeStatic()) == 0.25
    assert len(calls) == 3


def test_a_table_is_looked_up(model, context, tmp_path, monkeypatch):
    first = layer_table(model, context, folder=tmp_path)
    assert first == layer_table(model, context)
    monkeypatch.setattr(tables, "_measured", lambda *_: pytest.fail("it is known"))
    assert layer_table(model, context, folder=tmp_path) == first
