"""Sensitivity is measured once, and again as soon as anything it depends on changed."""

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import numpy as np
import pytest

from onnxopt.errors import ModelError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Applied, Context, Effect, Pass
from onnxopt.search.losses import CachedLosses, MeasuredLosses, evidence_key
from onnxopt.search.mix import layer_table as tables
from onnxopt.search.mix.forms import SIMPLE
from onnxopt.search.mix.layer_table import layer_table
from onnxopt.search.mix.screening import screened
from onnxopt.search.workers.runner import RemoteRunner, TaskInputs
from onnxopt.target import target_of
from tests import builders
from tests.search.inline import Inline


@dataclass(frozen=True)
class Fails(Pass):
    """Cannot be applied to anything."""

    name: ClassVar[str] = "fails"
    effect: ClassVar[Effect] = Effect.LOSSY

    def apply(self, model, context: Context) -> Applied:
        """Refuse."""
        raise ModelError("ONX304", "no model is good enough")


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


def test_a_loss_is_looked_up(model, context, tmp_path):
    asked = []

    def ask(base, specs):
        asked.append(list(specs))
        return [0.25 if spec == QuantizeStatic() else inf for spec in specs]

    specs = [QuantizeStatic(), QuantizeStatic(method="entropy")]
    for _ in range(2):
        assert CachedLosses(ask, model, context, tmp_path)(SIMPLE, specs) == [0.25, inf]
    # What failed is tried again.
    assert asked == [specs, specs[1:]]
    assert CachedLosses(ask, model, context, tmp_path)((), specs[:1]) == [0.25]
    assert CachedLosses(ask, model, context, None)(SIMPLE, specs[:1]) == [0.25]
    assert len(asked) == 4


def test_workers_find_the_losses_that_one_process_finds(model, context):
    specs = [QuantizeStatic(), PruneChannels(ratio=0.5, round_to=1), Fails()]
    here = MeasuredLosses(model, context)(SIMPLE, specs)
    assert 0 < here[0] < here[2] == inf
    assert 0 < here[1] < inf
    work = TaskInputs(context.calibration, context.calibration, None, "x86-vnni", Runtime(), 0, ({},), {})
    assert RemoteRunner(model, work, Inline(), bench=Inline()).losses(SIMPLE, specs) == here
    assert RemoteRunner(model, work, Inline()).losses(SIMPLE, specs) == here


def test_sets_that_do_nothing_are_not_looked_into():
    harm = {"a": 1.0, "b": 0.0, "c": 0.001, "d": 0.0, "e": 0.0, "f": 0.5}
    asked = []

    def harms(sets):
        asked.extend(map(tuple, sets))
        return [sum(harm[name] for name in some) for some in sets]

    found = screened(list(harm), harms)
    assert list(found) == list(harm)
    assert found["a"] == 1.0
    assert found["f"] == 0.5
    assert sum(found.values()) == pytest.approx(sum(harm.values()))
    assert ("b",) not in asked
    assert ("c",) not in asked
    assert screened([], harms) == {}


def test_a_table_is_looked_up(model, context, tmp_path, monkeypatch):
    first = layer_table(model, context, folder=tmp_path)
    assert first == layer_table(model, context)
    monkeypatch.setattr(tables, "_measured", lambda *_: pytest.fail("it is known"))
    assert layer_table(model, context, folder=tmp_path) == first
