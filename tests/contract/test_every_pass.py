"""What every pass must keep, on every model of `tests.builders`: a new pass is under contract by existing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import catalog, model_file
from onnxopt.model_file import Signature, signature_of, to_bytes
from onnxopt.pipeline import Context, Effect, Optimized, Pipeline
from onnxopt.quantization.isa import target_of
from tests import builders, numerics

OPTION_SETS: Mapping[str, tuple[str, ...]] = {
    "simplify": ("simplify{fuse=false}",),
    "quantize-dynamic": (
        "quantize-dynamic{per_channel=false,weight_type=uint8}",
        "quantize-dynamic{op_types=[MatMul,Gemm],reduce_range=yes}",
    ),
    "quantize-static": (
        "quantize-static{format=qoperator,method=entropy}",
        "quantize-static{activation_type=int8,weight_type=int8,method=mse}",
        "quantize-static{method=percentile,percentile=99,per_channel=false,reduce_range=yes,samples=3}",
        "quantize-static{op_types=[Conv,MatMul]}",
        "quantize-static{correct_bias=true,rounding=gptq}",
    ),
    "prune-channels": (
        "prune-channels{macs=0.5,round_to=1}",
        "prune-channels{ratio=0.5,round_to=1,scope=local,importance=act-var,compensate=affine}",
    ),
    "factorize": (
        "factorize{rank_ratio=0.5,round_to=1,verify=false}",
        "factorize{macs=0.6,round_to=2,verify=false,data_aware=false}",
    ),
    "prune-heads": ("prune-heads{ratio=0.5}",),
    "smooth-quant": ("smooth-quant{alpha=1}",),
    "decouple": ("decouple{terms=2,verify=false}",),
    "quantize-weights": (
        "quantize-weights{least=1}",
        "quantize-weights{form=dequantize,least=1}",
        "quantize-weights{bits=4,block=64,least=1}",
    ),
    "share-weights": ("share-weights{bits=4}",),
    "prune-groups": ("prune-groups{ratio=0.5}",),
    "prune-blocks": ("prune-blocks{ratio=1,layers=true}",),
    "prune-gradually": ("prune-gradually{macs=0.6,rounds=2,steps=2,round_to=1}",),
    "reconstruct-blocks": ("reconstruct-blocks{rounding=true,steps=2}",),
    "prune-weights": ("prune-weights{importance=wanda}", "prune-weights{pattern=2:4,importance=wanda}"),
}
"""Options worth testing on every model, beside the defaults."""

SPECS = [text for name in catalog.available_passes() for text in (name, *OPTION_SETS.get(name, ()))]


@dataclass(frozen=True)
class Case:
    """One pass applied to one model, twice."""

    spec: str
    builder: str
    model: ir.Model
    untouched: bytes
    first: Optimized
    second: Optimized


def feeds_for(builder: str) -> dict[str, np.ndarray]:
    return builders.feeds_of(builders.BUILDERS[builder](), batch=1 if builder in builders.RUNS_AT_ONE_ONLY else 2)


def context_for(model: ir.Model) -> Context:
    return Context(target_of("x86-vnni"), builders.samples_of(model), teacher=model, seed=3)


@cache
def outcome(spec: str, builder: str) -> Case:
    model = builders.BUILDERS[builder]()
    untouched = to_bytes(model)
    pipeline = Pipeline(catalog.parse(spec))
    runs = [pipeline.run(model, context_for(model)) for _ in range(2)]
    return Case(spec, builder, model, untouched, *runs)


@cache
def reference(builder: str) -> list[Any]:
    return builders.run(builders.BUILDERS[builder](), feeds_for(builder))


@pytest.fixture(scope="module", params=[(s, b) for b in builders.BUILDERS for s in SPECS], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    return outcome(*request.param)


def test_the_input_model_stays_as_it_is(case: Case) -> None:
    assert to_bytes(case.model) == case.untouched


def test_the_checker_accepts_the_result(case: Case) -> None:
    model_file.check(case.first.model)
    assert case.first.model.ir_version >= case.model.ir_version


def _types(signature: Signature) -> list[tuple[str, str, int | None]]:
    return [
        (s.name, s.dtype, None if s.shape is None else len(s.shape)) for s in (*signature.inputs, *signature.outputs)
    ]


def test_inputs_and_outputs_are_the_same(case: Case) -> None:
    before, after = signature_of(case.model), signature_of(case.first.model)
    assert _types(after) == _types(before)
    assert [s.shape for s in after.inputs] == [s.shape for s in before.inputs]


def test_metadata_is_kept(case: Case) -> None:
    kept = case.first.model
    assert dict(case.model.metadata_props).items() <= dict(kept.metadata_props).items()
    assert (kept.producer_name, kept.producer_version) == (case.model.producer_name, case.model.producer_version)


def test_same_seed_same_bytes(case: Case) -> None:
    assert to_bytes(case.first.model) == to_bytes(case.second.model)
    assert [s.edits for s in case.first.steps] == [s.edits for s in case.second.steps]


def test_no_edits_mean_the_same_bytes(case: Case) -> None:
    edited = any(step.edits for step in case.first.steps)
    assert edited or to_bytes(case.first.model) == case.untouched
    assert not edited or to_bytes(case.first.model) != case.untouched


def test_every_skip_and_edit_says_what_and_why(case: Case) -> None:
    for step in case.first.steps:
        assert all(skip.target and skip.reason.strip() and "\n" not in skip.reason for skip in step.skipped)
        assert all(edit.target and edit.action.strip() for edit in step.edits)


@pytest.mark.parametrize("optimized", [False, True], ids=["plain", "optimized"])
def test_the_result_runs_and_keeps_the_outputs(case: Case, optimized: bool) -> None:
    before, after = reference(case.builder), builders.run(case.first.model, feeds_for(case.builder), optimized)
    if all(step.spec.effect is Effect.EXACT for step in case.first.steps):
        limit = numerics.HALF_RELATIVE if case.builder in builders.HALF else numerics.EXACT_RELATIVE
        assert numerics.largest_difference(before, after) <= limit
        return
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        if isinstance(old, np.ndarray):
            assert (new.shape, new.dtype) == (old.shape, old.dtype)
            assert np.isfinite(new.astype(np.float64)).all()
        else:
            assert [m.keys() for m in new] == [m.keys() for m in old]


def test_what_is_lost_is_little(case: Case) -> None:
    """On the samples a pass was calibrated on, so that ranges cannot be to blame."""
    if "reinit" in case.spec:
        pytest.skip("it forgets on purpose; its own tests teach it again")
    if any(word in case.spec for word in ("prune", "factorize{", "decouple{", "share-weights{", "bits=4")):
        pytest.skip("how much pruning loses is the user's choice of ratio; its own tests compare with masked weights")
    samples = builders.samples_of(case.model).with_batch_size(1)
    pairs = [[builders.run(m, dict(f)) for f in samples] for m in (case.model, case.first.model)]
    floor = numerics.CLIPPED_SQNR_DB if "percentile" in case.spec else numerics.INT8_SQNR_DB
    for outputs in zip(*(zip(*runs, strict=True) for runs in pairs), strict=True):
        if isinstance(outputs[0][0], np.ndarray) and outputs[0][0].dtype.kind == "f":
            signal, noisy = (np.concatenate([a.ravel() for a in arrays]) for arrays in outputs)
            assert numerics.sqnr_db(signal, noisy) > floor


@pytest.mark.parametrize("text", SPECS)
def test_options_survive_text_and_json(text: str) -> None:
    (spec,) = catalog.parse(text)
    assert catalog.parse(catalog.format_pass(spec)) == (spec,)
    assert catalog.make_pass(spec.name, json.loads(json.dumps(catalog.options_of(spec)))) == spec


@pytest.mark.parametrize("name", catalog.available_passes())
def test_every_pass_is_described(name: str) -> None:
    kind = catalog.available_passes()[name]
    assert kind.__doc__ is not None
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "this docstring is the one dataclass makes up"
    assert kind.apply.__doc__
    assert isinstance(kind.effect, Effect)
    described = kind.__doc__.partition("Attributes:")[2]
    for option in fields(kind):
        assert f"{option.name}:" in described, f"option {option.name} is not described"


def test_every_option_set_belongs_to_a_pass() -> None:
    assert set(OPTION_SETS) <= set(catalog.available_passes())
