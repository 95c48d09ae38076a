"""The contract that every pass keeps, as a call: the contract tests of this project use the same checks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt import catalog, model_file
from onnxopt.errors import ModelError
from onnxopt.measure.equivalence import difference
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import Signature, probe_feeds, signature_of, to_bytes
from onnxopt.options.runtime import OptimizationLevel
from onnxopt.pipeline import Context, Effect, Optimized, Pass, Pipeline
from onnxopt.samples import Feeds, Samples, open_samples
from onnxopt.target import detect
from onnxopt.testing.models import model_names, small_model

REASSOCIATION = 2e-5
"""Largest difference, relative to the largest output, that another order of float32 sums may cause in a small model."""

_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class Case:
    """One pass applied twice to one model.

    Attributes:
        passes: a pipeline of this pass alone.
        model: the baseline, which the pass must not change.
        untouched: bytes of the baseline before the pass ran.
        first: the result.
        second: the result of a second run with the same seed.
        feeds: one batch to compare outputs on.
        exact_within: largest relative difference that an EXACT pass may cause.
    """

    passes: tuple[Pass, ...]
    model: ir.Model
    untouched: bytes
    first: Optimized
    second: Optimized
    feeds: Feeds
    exact_within: float = REASSOCIATION

    @cached_property
    def baseline_outputs(self) -> list[Any]:
        """Outputs of the baseline for `feeds`, without the runtime's optimizations."""
        return Session(self.model, Runtime(optimization="none")).run(self.feeds)


def apply_twice(
    passes: tuple[Pass, ...], model: ir.Model, samples: Samples, feeds: Feeds, exact_within: float = REASSOCIATION
) -> Case:
    """Run `passes` twice on `model` with the same context.

    Raises:
        OnnxoptError: as `onnxopt.Pipeline.run`.
    """
    untouched = to_bytes(model)
    context = Context(detect(), samples, teacher=model, seed=3)
    first, second = (Pipeline(passes).run(model, context) for _ in range(2))
    return Case(passes, model, untouched, first, second, feeds, exact_within)


def the_input_model_stays_as_it_is(case: Case) -> None:
    """Check that the model that was passed in has the same bytes as before."""
    _hold(to_bytes(case.model) == case.untouched, "the pass changed the model that it was given a copy of")


def the_onnx_checker_accepts_the_result(case: Case) -> None:
    """Check the result with the ONNX checker; the IR version is not lowered."""
    try:
        model_file.check(case.first.model)
    except ModelError as error:
        raise AssertionError(f"the ONNX checker refuses the result: {error.why or error.what}") from error
    _hold(case.first.model.ir_version >= case.model.ir_version, "the IR version was lowered")


def inputs_and_outputs_are_the_same(case: Case) -> None:
    """Check names, types and ranks of inputs and outputs, and the shapes of inputs."""
    before, after = signature_of(case.model), signature_of(case.first.model)
    _hold(_types(after) == _types(before), "names, types or ranks of inputs or outputs changed")
    _hold([s.shape for s in after.inputs] == [s.shape for s in before.inputs], "the shape of an input changed")


def metadata_is_kept(case: Case) -> None:
    """Check that the file's own notes and its producer are kept."""
    before, after = case.model, case.first.model
    _hold(dict(before.metadata_props).items() <= dict(after.metadata_props).items(), "metadata was lost")
    producers = [(m.producer_name, m.producer_version) for m in (before, after)]
    _hold(producers[0] == producers[1], "the producer's name or version changed")


def the_same_seed_gives_the_same_bytes(case: Case) -> None:
    """Check that two runs with one seed give one file and one list of edits."""
    _hold(to_bytes(case.first.model) == to_bytes(case.second.model), "two runs with the same seed differ in bytes")
    edits = [[step.edits for step in run.steps] for run in (case.first, case.second)]
    _hold(edits[0] == edits[1], "two runs with the same seed report different edits")


def no_edits_mean_the_same_bytes(case: Case) -> None:
    """Check that edits are reported if and only if the graph changed."""
    edited, changed = any(step.edits for step in case.first.steps), to_bytes(case.first.model) != case.untouched
    _hold(edited or not changed, "the graph changed and no edit is reported")
    _hold(changed or not edited, "an edit is reported and the graph did not change")


def every_skip_and_edit_names_its_target_and_its_reason(case: Case) -> None:
    """Check that each skip has a target and a reason of one line, and each edit a target and an action."""
    for step in case.first.steps:
        for skip in step.skipped:
            _hold(bool(skip.target and skip.reason.strip()), f"a skip lacks its target or its reason: {skip}")
            _hold("\n" not in skip.reason, f"the reason of a skip has several lines: {skip}")
        for edit in step.edits:
            _hold(bool(edit.target and edit.action.strip()), f"an edit lacks its target or its action: {edit}")


def the_result_runs_and_keeps_the_outputs(case: Case, optimization: OptimizationLevel) -> None:
    """Check shapes, types and finiteness of the outputs; their values too where the pass is EXACT.

    Args:
        case: the pass and the model.
        optimization: the optimization level of ONNX Runtime, `none` or `all`.
    """
    before = case.baseline_outputs
    after = Session(case.first.model, Runtime(optimization=optimization)).run(case.feeds)
    _hold(len(after) == len(before), "the number of outputs changed")
    if all(step.spec.effect is Effect.EXACT for step in case.first.steps):
        largest = max((difference(a, b) for a, b in zip(before, after, strict=True)), default=0.0)
        _hold(largest <= case.exact_within, f"the pass is EXACT and its outputs differ by {largest:.1e}")
        return
    for old, new in zip(before, after, strict=True):
        if isinstance(old, np.ndarray):
            _hold((new.shape, new.dtype) == (old.shape, old.dtype), "the shape or type of an output changed")
            _hold(bool(np.isfinite(new.astype(np.float64)).all()), "an output is not finite")
        else:
            _hold([m.keys() for m in new] == [m.keys() for m in old], "the classes of an output changed")


def _unoptimized(case: Case) -> None:
    the_result_runs_and_keeps_the_outputs(case, "none")


def _optimized(case: Case) -> None:
    the_result_runs_and_keeps_the_outputs(case, "all")


def options_survive_text_and_json(case: Case) -> None:
    """Check that the JSON form of each pass reads back to an equal pass, and the text form of one that is installed."""
    for spec in case.passes:
        text, options = catalog.format_pass(spec), json.loads(json.dumps(catalog.options_of(spec)))
        _hold(catalog.typed(type(spec), options) == spec, f"the options do not survive JSON: {text}")
        if catalog.available_passes().get(spec.name) is type(spec):
            _hold(catalog.parse(text) == (spec,), f"the options do not survive text: {text}")


CHECKS: Mapping[str, Callable[[Case], None]] = {
    "the input model is not modified": the_input_model_stays_as_it_is,
    "the ONNX checker accepts the result": the_onnx_checker_accepts_the_result,
    "inputs and outputs are the same": inputs_and_outputs_are_the_same,
    "metadata is kept": metadata_is_kept,
    "the same seed gives the same bytes": the_same_seed_gives_the_same_bytes,
    "no edits mean the same bytes": no_edits_mean_the_same_bytes,
    "every skip and edit names its target and its reason": every_skip_and_edit_names_its_target_and_its_reason,
    "the result runs and keeps the outputs, optimizations off": _unoptimized,
    "the result runs and keeps the outputs, optimizations on": _optimized,
    "options survive text and JSON": options_survive_text_and_json,
}
"""Every check by its sentence."""


def hold_to_contract(case: Case) -> None:
    """Run every check on a case.

    Raises:
        AssertionError: a check failed; the message names it.
    """
    for sentence, check in CHECKS.items():
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"{sentence}: {error}") from error


def check_pass(spec: Pass, models: Mapping[str, ir.Model] | None = None) -> None:
    """Hold a pass to the contract of `onnxopt`'s own passes, on each of several models.

    Args:
        spec: the pass with its options.
        models: models by name; None takes the small models of `onnxopt.testing`. Their first input has a batch axis.

    Raises:
        AssertionError: a check failed; the message names the model and the check.
        OnnxoptError: the pass raised it.
    """
    chosen = models if models is not None else {name: small_model(name) for name in model_names()}
    for name, model in chosen.items():
        feeds = probe_feeds(signature_of(model), seed=100, dynamic=2)
        try:
            hold_to_contract(apply_twice((spec,), model, _samples(model), feeds))
        except AssertionError as error:
            raise AssertionError(f"{spec.name} on {name}: {error}") from error


def _samples(model: ir.Model) -> Samples:
    signature = signature_of(model)
    batches = [probe_feeds(signature, seed=seed, dynamic=1) for seed in range(_SAMPLES)]
    arrays = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return open_samples(arrays, signature)


def _types(signature: Signature) -> list[tuple[str, str, int | None]]:
    return [
        (s.name, s.dtype, None if s.shape is None else len(s.shape)) for s in (*signature.inputs, *signature.outputs)
    ]


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
