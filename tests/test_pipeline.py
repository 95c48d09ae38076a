"""Passes one after the other: the model given stays as it is, and a pass that breaks it is named."""

import gc
import os
import signal
from dataclasses import dataclass, replace
from threading import Timer
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import to_bytes
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Pipeline, Skip
from onnxopt.quantization.calibration import ranges
from onnxopt.target import target_of
from tests import builders
from tests.hostile.test_kinds import endless_loop

CONTEXT = Context(target_of("x86-vnni"))


@dataclass(frozen=True)
class Act(Pass):
    """Do one thing to the model; for tests."""

    name: ClassVar[str] = "act"
    effect: ClassVar[Effect] = Effect.EXACT

    what: str = "nothing"

    def apply(self, model: ir.Model, context: Context) -> Applied:
        first = model.graph.node(0)
        match self.what:
            case "rename":
                first.name = "renamed"
            case "ghost":
                first.replace_input_with(0, ir.Value(name="ghost"))
            case "no such operator":
                first.op_type = "NoSuchOperator"
            case "output":
                model.graph.outputs[0].name = "z"
            case "input":
                model.graph.inputs[0].name = "z"
            case "nothing":
                return Applied(model, (), (Skip("graph", "nothing was asked for"),))
        return Applied(model, (Edit(first.name or "", self.what),))


@dataclass(frozen=True)
class Teach(Act):
    """Read the teacher."""

    name: ClassVar[str] = "teach"

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Say who teaches."""
        assert context.teacher is not None
        return Applied(model, (Edit("teacher", f"its first node is {context.teacher.graph.node(0).name}"),))


def test_the_model_given_stays_as_it_is() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    before = to_bytes(model)
    result = Pipeline((Act("rename"), Act())).run(model, CONTEXT)
    assert to_bytes(model) == before
    assert result.model.graph.node(0).name == "renamed"
    assert [s.spec for s in result.steps] == [Act("rename"), Act()]
    assert [len(s.edits) for s in result.steps] == [1, 0]
    assert result.steps[1].skipped == (Skip("graph", "nothing was asked for"),)
    assert all(s.duration_s >= 0 for s in result.steps)


def test_no_passes_give_an_equal_copy() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    result = Pipeline(()).run(model, CONTEXT)
    assert result.model is not model
    assert to_bytes(result.model) == to_bytes(model)
    assert result.steps == ()


@pytest.mark.parametrize("what", ["ghost", "no such operator", "output", "input"])
def test_a_pass_that_breaks_the_model_is_named(what: str) -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    before = to_bytes(model)
    with pytest.raises(ModelError, match="ONX306") as caught:
        Pipeline((Act(), Act(what))).run(model, CONTEXT)
    assert what in caught.value.where
    assert "step 2 of 2" in caught.value.where
    assert to_bytes(model) == before


def test_needs_are_checked_before_anything_runs() -> None:
    (last,) = parse("quantize-static")
    with pytest.raises(UsageError, match="ONX114") as caught:
        Pipeline((Act("ghost"), last)).run(builders.BUILDERS["gemm_mlp"](), CONTEXT)
    assert caught.value.where == "quantize-static"
    assert "--data" in caught.value.hint


@pytest.mark.parametrize("need", Need)
def test_every_need_is_checked(need: Need) -> None:
    @dataclass(frozen=True)
    class Needy(Act):
        """Need one thing."""

        needs: ClassVar[frozenset[Need]] = frozenset({need})

    with pytest.raises(UsageError, match=f"ONX114.*{need.value}"):
        Pipeline((Needy(),)).run(builders.BUILDERS["gemm_mlp"](), CONTEXT)


def test_the_teacher_is_the_model_a_pipeline_starts_with_unless_another_is_given() -> None:
    model, other = builders.BUILDERS["gemm_mlp"](), builders.BUILDERS["residual_cnn"]()
    for given, expected in ((None, model), (other, other)):
        result = Pipeline((Act("rename"), Teach())).run(model, replace(CONTEXT, teacher=given))
        first = expected.graph.node(0).name
        assert result.steps[1].edits == (Edit("teacher", f"its first node is {first}"),)


def test_an_observation_is_made_once_for_each_name_and_key() -> None:
    made: list[str] = []
    cache = Context(target_of("x86-vnni")).cache

    def observed(what: str) -> int:
        made.append(what)
        return len(made)

    keys = [("ranges", ("m", 3)), ("ranges", ("m", 3)), ("ranges", ("m", 4)), ("places", ("m", 3))]
    assert [cache.once(name, key, lambda name=name: observed(name)) for name, key in keys] == [1, 1, 2, 3]
    assert made == ["ranges", "ranges", "places"]


def test_methods_on_one_context_share_the_sweep_over_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sweeps = builders.BUILDERS["residual_cnn"](), []
    sweep = ranges.extremes
    monkeypatch.setattr(ranges, "extremes", lambda *a, **k: sweeps.append(1) or sweep(*a, **k))
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    for method in ("minmax", "entropy"):
        Pipeline(parse(f"quantize-static{{method={method}}}")).run(model, context)
    assert len(sweeps) == 1


def test_passes_build_on_each_other() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    result = Pipeline(parse("simplify,quantize-static")).run(model, context)
    ops = {node.op_type for node in result.model.graph}
    assert "BatchNormalization" not in ops
    assert "DequantizeLinear" in ops
    assert {e.target for e in result.steps[1].edits} >= {n.name for n in model.graph if n.op_type == "Conv"}


@dataclass(frozen=True)
class Run(Act):
    """Run a model that does not end."""

    def apply(self, model: ir.Model, context: Context) -> Applied:
        Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        Session(endless_loop().SerializeToString(), Runtime()).run({"x": np.ones((1, 4), np.float32)})
        return Applied(model)


def test_ctrl_c_ends_a_run_of_a_model_in_a_pass() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    limit = Timer(60, os.abort)  # without the guard it never ends
    limit.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Pipeline((Run(),)).run(builders.gemm_mlp(), CONTEXT)
    finally:
        limit.cancel()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("weights", "aside"), [(64, True), (5_000_000, False)])
def test_objects_are_set_aside_for_large_graphs_of_small_weights(
    monkeypatch: pytest.MonkeyPatch, weights: int, aside: bool
) -> None:
    seen = list[int]()

    @dataclass(frozen=True)
    class Looks(Pass):
        name: ClassVar[str] = "looks"
        effect: ClassVar[Effect] = Effect.EXACT

        def apply(self, model: ir.Model, context: Context) -> Applied:
            seen.append(gc.get_freeze_count())
            return Applied(model)

    model = builders.BUILDERS["gemm_mlp"]()
    value = next(iter(model.graph.initializers.values()))
    value.const_value = ir.tensor(np.zeros(weights, np.float32), name=value.name)
    monkeypatch.setattr("onnxopt.model_file.heap._MANY", 10)
    gc.unfreeze()  # the suite sets aside all tests
    try:
        Pipeline((Looks(),)).run(model, Context(target_of("x86-vnni")))
        assert not gc.get_freeze_count()
    finally:
        gc.freeze()
    assert [bool(one) for one in seen] == [aside]
