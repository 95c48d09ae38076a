"""Each check of the contract finds the pass that breaks it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.errors import UsageError
from onnxopt.graph.edit import set_weight
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Applied, Context, Edit, Effect, Optimized, Pass, Skip
from onnxopt.testing import check_pass, model_names, small_model
from onnxopt.testing.contract import CHECKS, Case

CALLS = iter(range(1_000_000))


def keeps(model: ir.Model) -> Applied:
    return Applied(model)


def changes_in_silence(model: ir.Model) -> Applied:
    model.graph.name = "changed"
    return Applied(model)


def reports_an_edit_that_it_did_not_make(model: ir.Model) -> Applied:
    return Applied(model, (Edit("graph", "changed"),))


def changes_the_outputs(model: ir.Model) -> Applied:
    weight = next(v for v in model.graph.initializers.values() if v.name == "w1")
    set_weight(weight, weight.const_value.numpy() * 1.01)
    return Applied(model, (Edit("w1", "scaled"),))


def differs_from_run_to_run(model: ir.Model) -> Applied:
    model.graph.name = f"run {next(CALLS)}"
    return Applied(model, (Edit("graph", "renamed"),))


def drops_the_metadata(model: ir.Model) -> Applied:
    model.producer_name = "somebody else"
    return Applied(model, (Edit("graph", "signed"),))


def skips_without_a_reason(model: ir.Model) -> Applied:
    return Applied(model, (), (Skip("graph", " "),))


def lowers_the_ir_version(model: ir.Model) -> Applied:
    model.ir_version -= 1
    return Applied(model, (Edit("graph", "lowered"),))


def frees_the_batch_axis_of_the_input(model: ir.Model) -> Applied:
    model.graph.inputs[0].shape = ir.Shape(["other", *list(model.graph.inputs[0].shape)[1:]])
    return Applied(model, (Edit("x", "renamed its batch axis"),))


@dataclass(frozen=True)
class Custom(Pass):
    """Do as a function of this file does."""

    name: ClassVar[str] = "custom"
    effect: ClassVar[Effect] = Effect.EXACT

    act: str = "keeps"

    def apply(self, model: ir.Model, context: Context) -> Applied:
        act: Callable[[ir.Model], Applied] = globals()[self.act]
        return act(model)


def test_a_pass_that_keeps_the_contract_is_accepted() -> None:
    check_pass(Custom())
    check_pass(Simplify())


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("changes_in_silence", "no edits mean the same bytes"),
        ("reports_an_edit_that_it_did_not_make", "no edits mean the same bytes"),
        ("changes_the_outputs", "the result runs and keeps the outputs, optimizations off"),
        ("differs_from_run_to_run", "the same seed gives the same bytes"),
        ("drops_the_metadata", "metadata is kept"),
        ("skips_without_a_reason", "every skip and edit names its target and its reason"),
        ("lowers_the_ir_version", "the ONNX checker accepts the result"),
        ("frees_the_batch_axis_of_the_input", "inputs and outputs are the same"),
    ],
)
def test_a_pass_that_breaks_the_contract_is_named_with_the_sentence_it_breaks(act: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=f"^custom on dense: {sentence}: "):
        check_pass(Custom(act), {"dense": small_model("dense")})


def test_a_pass_may_not_touch_the_model_it_was_given_a_copy_of() -> None:
    model = small_model("dense")
    same = Optimized(model, ())
    case = Case((Simplify(),), model, b"other bytes", same, same, {"x": np.zeros((1, 16), np.float32)})
    with pytest.raises(AssertionError, match="changed the model"):
        CHECKS["the input model is not modified"](case)


def test_text_that_reads_back_to_another_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxopt.catalog.format_pass", lambda spec: spec.name)
    check_pass(Simplify(), {"dense": small_model("dense")})
    with pytest.raises(AssertionError, match="the options do not survive text: simplify"):
        check_pass(Simplify(fuse=False), {"dense": small_model("dense")})


def test_options_that_json_cannot_hold_are_found() -> None:
    @dataclass(frozen=True)
    class Lists(Custom):
        sizes: float = 0.5

    same = Optimized(small_model("dense"), ())
    case = Case((Lists(sizes="half"),), same.model, b"", same, same, {})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sizes"):
        CHECKS["options survive text and JSON"](case)


@pytest.mark.parametrize("name", model_names())
def test_the_small_models_run_at_any_batch(name: str) -> None:
    feeds = probe_feeds(signature_of(small_model(name)), dynamic=3)
    assert all(len(output) == 3 for output in Session(small_model(name), Runtime()).run(feeds))
