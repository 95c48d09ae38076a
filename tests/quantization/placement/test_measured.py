"""Placement by measured cost; the clock is replaced, so that what it says is known."""

import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.quantization.kernels import executions
from onnxopt.quantization.placement import edges
from onnxopt.quantization.placement import measured as measured_placement
from onnxopt.quantization.placement.cheapest import PricedLayer
from onnxopt.quantization.placement.node_times import conversion_ms, layer_times_ms
from onnxopt.target import TARGETS, detect
from tests import builders

LAYERS = ("Conv_0", "Conv_3", "Conv_6", "Add_8", "GlobalAveragePool_10", "Flatten_11", "Gemm_12")


def pretend(
    monkeypatch: pytest.MonkeyPatch, speedups: dict[str, float], whole: list[float], conversion: float = 0.0
) -> None:
    """Let layers take 1 ms in float and 1/speedup in INT8, and the models, in the order timed, what `whole` says."""
    now: list[dict[str, float]] = [
        dict.fromkeys(LAYERS, 1.0),
        {name: 1.0 / speedups.get(name, 2.0) for name in LAYERS},
    ]
    times = iter(now)
    monkeypatch.setattr(measured_placement, "layer_times_ms", lambda *_: next(times))
    monkeypatch.setattr(edges, "conversion_ms", lambda *_: (conversion, 0.0))
    monkeypatch.setattr(
        measured_placement, "fastest_ms", lambda models, *_: [*whole, *[whole[-1]] * len(models)][: len(models)]
    )


def made(options: str = "", target: str | None = None) -> tuple[ir.Model, ir.Model, Step]:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(TARGETS[target] if target else detect(), builders.samples_of(model, count=8))
    before = Pipeline(parse("simplify")).run(model, context).model
    result = Pipeline(parse(f"quantize-static{{placement=measured{options}}}")).run(before, context)
    return before, result.model, result.steps[-1]


def test_a_slower_layer_is_float_in_the_graph_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"Conv_3": 0.52}, [3.0, 7.0, 2.0])
    before, after, step = made()
    found = {layer.name: layer for layer in executions(before, after, {})}
    assert [name for name in LAYERS if not found[name].integer] == ["Conv_3"]
    assert {s.target: s.reason for s in step.skipped} == {"Conv_3": "slower in INT8: 0.52x"}
    assert {e.target for e in step.edits} == set(LAYERS) - {"Conv_3"}


def test_what_does_not_prove_faster_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"Conv_3": 0.52}, [3.0, 7.0, 2.99])
    _, _, step = made()
    assert {e.target for e in step.edits} == set(LAYERS)
    assert step.skipped == ()


def test_where_float_is_fastest_nothing_is_quantized(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, dict.fromkeys(LAYERS, 0.8), [3.0, 2.0])
    before, after, step = made()
    assert step.edits == ()
    assert {s.target for s in step.skipped} == set(LAYERS)
    assert [n.op_type for n in after.graph] == [n.op_type for n in before.graph]


def test_islands_that_do_not_pay_stay_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the last layer gains, less than its conversions cost.
    pretend(monkeypatch, {name: 2.0 if name == "Gemm_12" else 0.9 for name in LAYERS}, [3.0, 2.0], conversion=0.4)
    _, _, step = made()
    reasons = {s.target: s.reason for s in step.skipped}
    assert reasons["Gemm_12"] == "in INT8 it does not pay for the conversions around it"
    assert reasons["Conv_0"] == "slower in INT8: 0.90x"


def test_the_noise_of_the_outputs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {}, [7.0, 2.0])
    _, _, step = made(",min_sqnr_db=48")
    assert {s.target: s.reason for s in step.skipped} == {"Gemm_12": "too sensitive in INT8"}
    assert {e.target for e in step.edits} == set(LAYERS) - {"Gemm_12"}
    pretend(monkeypatch, {}, [7.0, 2.0])
    _, _, step = made(",min_sqnr_db=100")
    assert step.edits == ()


def test_times_of_another_processor_are_not_used() -> None:
    other = next(name for name in TARGETS if TARGETS[name] != detect() and TARGETS[name].activation_type == "uint8")
    _, _, step = made(target=other)
    assert {e.target for e in step.edits} == set(LAYERS)
    assert [s.target for s in step.skipped] == ["graph"]
    assert other in step.skipped[0].reason


def test_every_layer_is_timed_in_both_forms() -> None:
    context = Context(detect(), builders.samples_of(builders.BUILDERS["residual_cnn"](), count=8))
    before = Pipeline(parse("simplify")).run(builders.BUILDERS["residual_cnn"](), context).model
    after = Pipeline(parse("quantize-static")).run(before, context).model
    feeds = builders.feeds_of(before, batch=1)
    floats, integers = (layer_times_ms(before, made_of, feeds, Runtime()) for made_of in (before, after))
    weighted = {"Conv_0", "Conv_3", "Conv_6", "Gemm_12"}
    assert weighted <= floats.keys()
    assert weighted <= integers.keys()
    assert all(time > 0 for time in (*floats.values(), *integers.values()))


def test_converting_more_elements_takes_longer() -> None:
    base, per_element = conversion_ms(Runtime())
    assert base >= 0
    assert 0 < per_element < 1e-3


def test_a_bound_without_placement_is_refused() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(detect(), builders.samples_of(model, count=8))
    with pytest.raises(UsageError, match=r"ONX112: .*min_sqnr_db"):
        Pipeline(parse("quantize-static{min_sqnr_db=20}")).run(model, context)


def test_a_layer_that_takes_no_time_in_float_is_not_called_zero_times_slower() -> None:
    assert "0.00x" not in measured_placement._reason(PricedLayer(0.0, 0.2), sensitive=False)
    assert measured_placement._reason(PricedLayer(0.1, 0.2), sensitive=False) == "slower in INT8: 0.50x"
