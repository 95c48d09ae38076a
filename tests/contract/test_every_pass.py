"""What every pass must keep, on every model of `tests.builders`: a new pass is under contract by existing."""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache

import numpy as np
import pytest

from onnxopt import catalog
from onnxopt.options.declared import field_docs
from onnxopt.pipeline import Effect
from onnxopt.testing.contract import Case, apply_twice, hold_to_contract
from tests import builders, numerics

OPTION_SETS: Mapping[str, tuple[str, ...]] = {
    "simplify": ("simplify{fuse=false}",),
    "quantize-dynamic": (
        "quantize-dynamic{per_channel=false,weight_type=uint8}",
        "quantize-dynamic{op_types=[MatMul,Gemm],reduce_range=yes}",
    ),
    "quantize-static": (
        "quantize-static{form=qoperator,method=entropy}",
        "quantize-static{activation_type=int8,weight_type=int8,method=mse}",
        "quantize-static{method=percentile,percentile=99,per_channel=false,reduce_range=yes,samples=3}",
        "quantize-static{op_types=[Conv,MatMul]}",
        "quantize-static{correct_bias=true,rounding=gptq}",
        "quantize-static{correct_channels=true,method=percentile}",
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
    "depthwise-separable": ("depthwise-separable{terms=2,verify=false}",),
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

SPECS_OF = {name: (name, *OPTION_SETS.get(name, ())) for name in catalog.available_passes()}
SPECS = [text for specs in SPECS_OF.values() for text in specs]


def _is_covering(builder: int, number: int, spec: int, specs: int) -> bool:
    """Return whether a case is in the part that always runs: each pass on each model, its options by turns."""
    return (builder + number) % specs == spec


CASES = [
    pytest.param((text, builder), marks=() if _is_covering(b, n, s, len(specs)) else pytest.mark.grid)
    for b, builder in enumerate(builders.BUILDERS)
    for n, specs in enumerate(SPECS_OF.values())
    for s, text in enumerate(specs)
]


def feeds_for(builder: str) -> dict[str, np.ndarray]:
    return builders.feeds_of(builders.BUILDERS[builder](), batch=1 if builder in builders.RUNS_AT_ONE_ONLY else 2)


@cache
def outcome(spec: str, builder: str) -> Case:
    model = builders.BUILDERS[builder]()
    limit = numerics.HALF_RELATIVE if builder in builders.HALF else numerics.EXACT_RELATIVE
    return apply_twice(catalog.parse(spec), model, builders.samples_of(model), feeds_for(builder), limit)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, Case]:
    return request.param[0], outcome(*request.param)


def test_every_pass_keeps_the_contract(case: tuple[str, Case]) -> None:
    hold_to_contract(case[1])


def test_what_is_lost_is_little(case: tuple[str, Case]) -> None:
    """On the samples a pass was calibrated on, so that ranges cannot be to blame."""
    spec, made = case
    if "narrow-student" in spec:
        pytest.skip("it forgets on purpose; its own tests teach it again")
    if any(word in spec for word in ("prune", "factorize{", "depthwise-separable{", "share-weights{", "bits=4")):
        pytest.skip("how much pruning loses is the user's choice of ratio; its own tests compare with masked weights")
    samples = builders.samples_of(made.model).with_batch_size(1)
    pairs = [[builders.run(m, dict(f)) for f in samples] for m in (made.model, made.first.model)]
    floor = numerics.CLIPPED_SQNR_DB if "percentile" in spec else numerics.INT8_SQNR_DB
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
    described = field_docs(kind)
    for option in fields(kind):
        assert described.get(option.name), f"option {option.name} is not described"


def test_every_option_set_belongs_to_a_pass() -> None:
    assert set(OPTION_SETS) <= set(catalog.available_passes())


def test_the_part_of_the_grid_that_always_runs_has_every_pass_on_every_model_and_every_option_set() -> None:
    always = {case.values[0] for case in CASES if not case.marks}
    assert {spec for spec, _ in always} == set(SPECS)
    passes_of = {text: name for name, specs in SPECS_OF.items() for text in specs}
    pairs = {(passes_of[spec], builder) for spec, builder in always}
    assert pairs == {(name, builder) for name in SPECS_OF for builder in builders.BUILDERS}
