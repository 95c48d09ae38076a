"""Bits are chosen in the graph that is the fastest as called: the simplified one, or one with fused attention."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir
import pytest

from onnxopt.catalog import format_passes, parse
from onnxopt.errors import NativeError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.search import Goal
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search.losses import Base, MeasuredLosses
from onnxopt.search.mix import bases
from onnxopt.search.mix.bases import BASE, FUSED, Clock, fastest_base
from onnxopt.search.mix.bits import bit_tables
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.layer_times import LayerTimes
from onnxopt.search.mix.mixer import candidate_of
from onnxopt.search.workers.runner import LOST
from onnxopt.target import target_of
from tests import builders, numerics

PORTABLE, RUNTIME = FUSED
MODEL = builders.BUILDERS["transformer_17"]()
SAMPLES = builders.samples_of(MODEL, count=12)
CONTEXT = Context(target_of("x86-vnni"), SAMPLES)


def called(*lengths: tuple[float, float, float]) -> Clock:
    """Return a clock that knows the times of the plain and both fused graphs at each length."""
    names = ("", PORTABLE, RUNTIME)
    return lambda models: [{**dict.fromkeys(models, 9.0), **dict(zip(names, ms, strict=True))} for ms in lengths]


def base(*lengths: tuple[float, float, float], runs: Sequence[float] = (1.0,)) -> Base:
    return fastest_base(MODEL, CONTEXT, runs, called(*lengths))


@pytest.mark.parametrize(
    ("lengths", "runs", "wanted"),
    [
        ([(10.0, 9.0, 9.5)], (1.0,), PORTABLE),
        ([(10.0, 9.5, 9.0)], (1.0,), RUNTIME),
        ([(10.0, 10.5, 11.0)], (1.0,), ""),
        ([(10.0, 9.85, 10.0)], (1.0,), ""),
        ([(10.0, 8.0, 9.0), (1.0, 1.3, 0.9)], (1.0, 1.0), PORTABLE),
        ([(10.0, 8.0, 9.0), (1.0, 1.3, 0.9)], (1.0, 15.0), RUNTIME),
    ],
    ids=["portable", "runtime", "slower", "no faster than two equal models", "a prompt", "single tokens"],
)
def test_the_fastest_graph_is_used(
    lengths: list[tuple[float, float, float]], runs: tuple[float, ...], wanted: str
) -> None:
    assert base(*lengths, runs=runs) == ((*BASE, FUSED[wanted]) if wanted else BASE)


def test_graphs_are_timed_with_their_matrices_in_int8() -> None:
    seen = dict[str, set[str]]()

    def clock(models: Mapping[str, ir.Model]) -> list[dict[str, float]]:
        seen.update({name: {node.op_type for node in model.graph} for name, model in models.items()})
        return [dict.fromkeys(models, 1.0)]

    fastest_base(MODEL, CONTEXT, [1.0], clock)
    assert all("MatMulInteger" in kinds for kinds in seen.values())
    fused = {name: sorted(kinds & {"Softmax", "Attention", "MultiHeadAttention"}) for name, kinds in seen.items()}
    assert fused == {"": ["Softmax"], PORTABLE: ["Attention"], RUNTIME: ["MultiHeadAttention"]}


def never(models: Mapping[str, ir.Model]) -> list[dict[str, float]]:
    raise AssertionError("there is nothing to time")


def test_nothing_is_timed_without_attention_or_above_the_limit_of_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fastest_base(builders.BUILDERS["lstm"](), CONTEXT, [1.0], never) == BASE
    monkeypatch.setattr(bases, "fits_protobuf", lambda _: False)
    assert fastest_base(MODEL, CONTEXT, [1.0], never) == BASE


def test_a_runtime_that_does_not_load_the_fused_node_keeps_the_plain_graph() -> None:
    def failing(code: str) -> Clock:
        def clock(models: Mapping[str, ir.Model]) -> list[dict[str, float]]:
            raise NativeError(code, "no opset 23 here")

        return clock

    assert fastest_base(MODEL, CONTEXT, [1.0], failing("ONX401")) == BASE
    with pytest.raises(NativeError, match="no opset 23"):
        fastest_base(MODEL, CONTEXT, [1.0], failing(LOST))


def tables(goal: Goal = Goal.LATENCY, *, fuse: bool = True) -> CostTables:
    feeds = next(iter(SAMPLES.with_batch_size(1)))
    return bit_tables(
        MODEL, CONTEXT, [(feeds, 1.0)], goal=goal, times=LayerTimes(None, Runtime()), clock=called((10.0, 8.0, 9.0)),
        losses=MeasuredLosses(MODEL, CONTEXT), seconds=60, fuse=fuse,
    )  # fmt: skip


def test_mixes_are_built_in_the_fused_graph_with_the_layers_of_the_plain_one() -> None:
    made, plain = tables(), tables(fuse=False)
    assert made.base == (*BASE, FUSED[PORTABLE])
    assert plain.base == BASE
    assert list(made.problem.layers) == list(plain.problem.layers)
    passes = candidate_of(made, made.problem.whole("dynamic INT8"), 1).passes
    built = Pipeline(parse(format_passes(passes))).run(MODEL, CONTEXT).model
    kinds = [node.op_type for node in built.graph]
    assert "Softmax" not in kinds
    assert kinds.count("Attention") == 1
    assert kinds.count("MatMulInteger") == len(made.problem.layers)
    feeds = builders.feeds_of(MODEL)
    wanted, got = (builders.run(model, feeds)[0] for model in (MODEL, built))
    assert numerics.sqnr_db(wanted, got) > numerics.INT8_SQNR_DB


def test_the_graph_stays_where_size_is_the_goal() -> None:
    assert tables(Goal.SIZE).base == BASE
