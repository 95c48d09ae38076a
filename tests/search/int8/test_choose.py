"""The form that is chosen is close to the original and as fast as any that is, whatever the clock says."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from onnxopt.model_file import to_bytes
from onnxopt.passes import quantize_static
from onnxopt.passes.fuse_attention import FuseAttention
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context
from onnxopt.quantization.placement.measured import Placed
from onnxopt.search.int8 import choose as quantize_auto
from onnxopt.search.int8 import forms as quantize_forms
from onnxopt.search.int8.choose import Chosen, fastest_int8
from onnxopt.search.int8.forms import ALLOWED, Int8Forms
from onnxopt.search.limits.deadline import Deadline, TimeOver
from onnxopt.target import TARGETS, detect
from tests import builders
from tests.builders import IMAGE, F, Net


class Clock:
    """Times that follow from how many quantizers a graph has, or are drawn."""

    def __init__(self, int8: float = 0.5, low: float = 1.5, seed: int | None = None) -> None:
        self.int8, self.low, self.rng = int8, low, None if seed is None else np.random.default_rng(seed)

    def fastest(self, models: Any, feeds: Any, runtime: Any) -> list[float]:
        if self.rng is not None:
            return [float(t) for t in self.rng.uniform(0.5, 1.5, len(models))]
        return [self.int8 if any("Quantize" in n.op_type for n in m.graph) else 1.0 for m in models]

    def measured(self, models: Any, feeds: Any, runtime: Any, **options: Any) -> dict[str, Any]:
        speed = SimpleNamespace(low=self.low, value=self.low + 0.1, high=self.low + 0.2)
        return {name: SimpleNamespace(speedup=speed) for name in models}


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    name: str = "gemm_mlp",
    effort: Any = "normal",
    bounded: bool = False,
    limit: float | None = None,
) -> Chosen:
    monkeypatch.setattr(quantize_auto, "fastest_ms", clock.fastest)
    monkeypatch.setattr(quantize_auto, "measure_latency", clock.measured)
    monkeypatch.setattr(quantize_auto, "unmeasurable", lambda target: None)
    monkeypatch.setattr(quantize_forms, "unmeasurable", lambda target: None if bounded else "not here")
    monkeypatch.setattr(Int8Forms, "placed", lambda self, form: None)
    model = builders.BUILDERS[name]()
    before = to_bytes(model)
    found = fastest_int8(model, builders.samples_of(model, 16), Context(detect()), effort, time_limit=limit)
    assert to_bytes(model) == before
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_is_close_and_nothing_close_is_faster(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    found = chosen(monkeypatch, Clock(seed=seed))
    assert found.form.loss <= ALLOWED
    times = [form.time_ms for form in found.forms if form.loss <= ALLOWED and form.time_ms is not None]
    assert len(times) >= 3
    assert found.form.time_ms is not None
    assert found.form.time_ms <= min(times) * quantize_auto._SAME
    assert all(form.time_ms is None for form in found.forms if form.loss > ALLOWED)


def test_of_equally_fast_forms_the_closest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, Clock())
    assert isinstance(found.form.passes[-1], QuantizeStatic | QuantizeDynamic)
    assert found.form.loss == min(f.loss for f in found.forms if isinstance(f.passes[-1], type(found.form.passes[-1])))
    assert "the fastest of" in found.reason


@pytest.mark.parametrize(
    ("clock", "why"), [(Clock(int8=1.1), "faster than float"), (Clock(low=0.99), "not significantly faster")]
)
def test_what_is_not_surely_faster_stays_in_float(monkeypatch: pytest.MonkeyPatch, clock: Clock, why: str) -> None:
    found = chosen(monkeypatch, clock)
    assert why in found.reason
    assert not any("Quantize" in node.op_type for node in found.form.built.model.graph)


def test_what_is_not_close_is_never_taken_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize_forms, "ALLOWED", 1e-12)
    found = chosen(monkeypatch, Clock(int8=0.01))
    assert "error of every INT8 form is too large" in found.reason
    assert not any("Quantize" in node.op_type for node in found.form.built.model.graph)


def test_biases_are_corrected_first_then_harmful_layers_stay_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    def least(forms: tuple[quantize_forms.Int8Form, ...]) -> float:
        return min(f.loss for f in forms if isinstance(f.passes[-1], QuantizeStatic) and f.passes[-1].per_channel)

    loose = least(chosen(monkeypatch, Clock(), "residual_cnn").forms)
    monkeypatch.setattr(quantize_forms, "ALLOWED", loose * 0.99)
    found = chosen(monkeypatch, Clock(), "residual_cnn")
    assert any(isinstance(f.passes[-1], QuantizeStatic) and f.passes[-1].correct_bias for f in found.forms)
    tight = least(found.forms) * 0.9
    monkeypatch.setattr(quantize_forms, "ALLOWED", tight)
    found = chosen(monkeypatch, Clock(), "residual_cnn")
    assert any(isinstance(f.passes[-1], QuantizeStatic) and f.passes[-1].exclude for f in found.forms)
    assert found.form.loss <= tight


@pytest.mark.parametrize(
    ("few", "counts", "others", "expected"),
    [
        (0.5, True, 2.0, 2.0),  # close on few samples by luck
        (0.5, True, 0.4, 0.5),
        (0.5, False, 2.0, 0.5),
        (1.5, True, None, 1.5),  # too far off already
        (0.5, True, None, 0.5),  # so few samples that all of them judge
    ],
)
def test_a_close_form_of_counted_answers_is_close_on_the_samples_that_calibrate_it(
    few: float, counts: bool, others: float | None, expected: float
) -> None:
    judged = SimpleNamespace(counts=counts, of=lambda model: (few * ALLOWED, 20.0))
    more = None if others is None else SimpleNamespace(of=lambda model: (others * ALLOWED, 30.0))
    given = SimpleNamespace(judged=judged, _others=more)
    assert Int8Forms._loss(cast(Any, given), cast(Any, None)) == (expected * ALLOWED, 20.0)


@pytest.mark.parametrize(
    ("losses", "left", "effort", "tried"),
    [
        ((2.0, 3.0), 0.5, "normal", 2),
        ((2.0, 3.0), 0.9, "normal", 1),  # it helps little on the closest
        ((9.0, 11.0), 0.5, "normal", 1),  # the second is too far off
        ((11.0, 12.0), 0.5, "normal", 0),
        ((11.0, 12.0), 0.9, "high", 2),
    ],
)
def test_biases_are_corrected_where_that_may_bring_the_loss_within_the_limit(
    losses: tuple[float, float], left: float, effort: str, tried: int
) -> None:
    forms = [
        quantize_forms.Int8Form((QuantizeStatic(method=method),), cast(Any, None), loss * ALLOWED)
        for method, loss in zip(("mse", "minmax"), losses, strict=True)
    ]
    made = list[QuantizeStatic]()

    def correct(spec: QuantizeStatic) -> Any:
        assert spec.correct_bias
        made.append(spec)
        return SimpleNamespace(loss=left * losses[len(made) - 1] * ALLOWED)

    given = SimpleNamespace(effort=effort, _try=correct)
    found = list(Int8Forms._corrections(cast(Any, given), forms))
    assert len(found) == len(made) == tried


@pytest.mark.parametrize(
    ("plain", "corrected", "tried", "best"),
    [(0.9, 0.1, 1, 0.9), (1.5, 0.9, 2, 0.9), (1.5, 1.6, 2, 1.5), (3, 0.1, 1, 3)],
)
def test_a_changed_form_is_corrected_where_that_may_suffice(
    plain: float, corrected: float, tried: int, best: float
) -> None:
    made = list[QuantizeStatic]()

    def built(spec: QuantizeStatic) -> Any:
        made.append(spec)
        return SimpleNamespace(loss=(corrected if spec.correct_bias else plain) * ALLOWED)

    form = quantize_forms.Int8Form((QuantizeStatic(correct_bias=True),), cast(Any, None), 5 * ALLOWED)
    found = Int8Forms._changed(cast(Any, SimpleNamespace(_try=built)), form, exclude=("a",))
    assert found is not None
    assert found.loss == best * ALLOWED
    assert [spec.correct_bias for spec in made] == [False, True][:tried]
    assert all(spec.exclude == ("a",) for spec in made)


@pytest.mark.parametrize("bounded", [True, False])
def test_layers_are_ranked_only_where_no_measured_placement_is_close(
    monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    ranked = list[object]()
    monkeypatch.setattr(quantize_forms, "ALLOWED", 1e-12)
    monkeypatch.setattr(Int8Forms, "_bounded", lambda self, form: bounded)
    monkeypatch.setattr(Int8Forms, "_keep_worst", lambda self, form: ranked.append(form) or form)
    chosen(monkeypatch, Clock(), "residual_cnn")
    assert len(ranked) == (not bounded)


def test_where_all_are_too_far_the_fastest_placement_inside_the_bound_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[float]()

    def place(model: Any, quantized: Any, integer: Any, build: Any, samples: Any, min_sqnr_db: float) -> Placed:
        asked.append(min_sqnr_db)
        return Placed({next(iter(integer)): "too sensitive in INT8"})

    monkeypatch.setattr(quantize_static, "place", place)
    monkeypatch.setattr(quantize_static, "unmeasurable", lambda target: None)
    loose = chosen(monkeypatch, Clock(), "residual_cnn")
    assert not asked
    closest = min((f for f in loose.forms if isinstance(f.passes[-1], QuantizeStatic)), key=lambda f: f.loss)
    monkeypatch.setattr(quantize_forms, "ALLOWED", closest.loss * 0.5)
    tight = chosen(monkeypatch, Clock(), "residual_cnn", bounded=True)
    whole = [f for f in tight.forms if isinstance(f.passes[-1], QuantizeStatic) and f.passes[-1].placement == "all"]
    assert any(asked[0] == pytest.approx(f.min_sqnr_db, abs=0.01) for f in whole)  # corrections are tried too
    # Half the error is 3 dB more; a correction that is closer has its own ratio.
    assert asked[0] == pytest.approx(closest.min_sqnr_db + 10 * np.log10(ALLOWED / (closest.loss * 0.5)), abs=1)
    assert any(isinstance(f.passes[-1], QuantizeStatic) and f.passes[-1].min_sqnr_db > 0 for f in tight.forms)


def test_more_effort_tries_more(monkeypatch: pytest.MonkeyPatch) -> None:
    normal, high = (chosen(monkeypatch, Clock(), "gemm_mlp", effort) for effort in ("normal", "high"))
    assert len(high.forms) > len(normal.forms)
    assert any(isinstance(f.passes[-1], QuantizeStatic) and f.passes[-1].correct_bias for f in high.forms)
    assert min(f.loss for f in high.forms) <= min(f.loss for f in normal.forms)


class Fusing(Clock):
    """Graphs with attention in one node are the fastest, or the slowest."""

    def __init__(self, fused: float) -> None:
        super().__init__()
        self.fused = fused

    def fastest(self, models: Any, feeds: Any, runtime: Any) -> list[float]:
        times = super().fastest(models, feeds, runtime)
        fused = (any(node.op_type == "Attention" for node in model.graph) for model in models)
        return [self.fused if one else time for one, time in zip(fused, times, strict=True)]


@pytest.mark.parametrize(("fused", "taken"), [(0.4, True), (0.6, False)])
def test_attention_becomes_one_node_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, fused: float, taken: bool
) -> None:
    found = chosen(monkeypatch, Fusing(fused), "transformer_17", bounded=True)
    assert any(isinstance(spec, FuseAttention) for spec in found.form.passes) is taken
    assert any(node.op_type == "Attention" for node in found.form.built.model.graph) is taken
    tried = [form for form in found.forms if any(isinstance(spec, FuseAttention) for spec in form.passes)]
    assert {type(form.passes[-1]) for form in tried} == {QuantizeStatic, QuantizeDynamic}


def test_without_attention_or_a_clock_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that was not timed may be slower, and its opset is newer."""
    for name, timed in (("gemm_mlp", True), ("transformer_17", False)):
        found = chosen(monkeypatch, Clock(), name, bounded=timed)
        assert not any(isinstance(spec, FuseAttention) for form in found.forms for spec in form.passes)


def test_for_another_processor_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("timed")

    monkeypatch.setattr(quantize_auto, "fastest_ms", never)
    monkeypatch.setattr(quantize_auto, "measure_latency", never)
    model = builders.gemm_mlp()
    other = TARGETS["x86-avx2" if detect().name.startswith("arm") else "arm64-neon"]
    found = fastest_int8(model, builders.samples_of(model, 16), Context(other))
    assert found.form.loss == min(form.loss for form in found.forms if form.loss > 0)
    assert other.name in found.reason


def test_trees_have_nothing_to_quantize(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, Clock(), "trees_only")
    assert "nothing in this model" in found.reason
    assert to_bytes(found.form.built.model) == to_bytes(builders.trees_only())


def test_the_time_limit_ends_the_trials_and_keeps_those_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that is close is chosen among those made before the limit; none after it is tried."""

    def some(self: Int8Forms) -> bool:
        self._calibrations()
        raise TimeOver

    monkeypatch.setattr(Int8Forms, "try_all", some)
    monkeypatch.setattr(quantize_forms, "ALLOWED", 1.0)  # weights of 7 bits may lose more than is allowed
    found = chosen(monkeypatch, Clock(), limit=100.0)
    assert isinstance(found.form.passes[-1], QuantizeStatic)
    assert not any(isinstance(form.passes[-1], QuantizeDynamic) for form in found.forms if form.passes)
    assert found.reason.endswith("; the time limit of 100 seconds ended the trials")


def test_without_time_for_a_form_the_model_stays_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, Clock(), limit=1e-9)
    assert found.reason == "no INT8 form was made; the time limit of 1e-09 seconds ended the trials"
    assert not any("Quantize" in node.op_type for node in found.form.built.model.graph)


def test_forms_that_take_long_to_make_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole forms, dynamic ones too, are made before corrections and before placements by measurement."""
    monkeypatch.setattr(quantize_forms, "ALLOWED", 1e-12)
    order = list[str]()
    tried = Int8Forms._try

    def noted(self: Int8Forms, *passes: Any) -> Any:
        last = passes[-1]
        rescued = isinstance(last, QuantizeStatic) and (last.correct_bias or last.min_sqnr_db > 0 or last.exclude)
        order.append("rescued" if rescued else type(last).__name__)
        return tried(self, *passes)

    monkeypatch.setattr(Int8Forms, "_try", noted)
    chosen(monkeypatch, Clock(), bounded=True)
    assert "rescued" in order
    assert "QuantizeDynamic" in order[: order.index("rescued")]


def test_a_form_that_would_be_placed_after_the_limit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(1e-9)
    model = builders.BUILDERS["gemm_mlp"]()
    forms = Int8Forms(model, builders.samples_of(model, 16), Context(detect()), "normal")
    forms._calibrations()
    monkeypatch.setattr(quantize_auto, "fastest_ms", Clock().fastest)
    monkeypatch.setattr(quantize_auto, "measure_latency", Clock().measured)
    monkeypatch.setattr(quantize_auto, "unmeasurable", lambda target: None)
    found = quantize_auto._of_tried(forms, forms.plain(), Context(detect()), deadline)
    assert not any(getattr(form.passes[-1], "placement", "") == "measured" for form in found.forms if form.passes)


def test_a_form_without_integers_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamic quantization leaves convolutions alone; judging the float model again would take time."""
    net = Net(0)
    net.conv("x", 3, 4)
    net.node("Relu", "conv_3", out="y")
    model = net.model([IMAGE], [("y", F, ["batch", 4, 8, 8])])
    forms = Int8Forms(model, builders.samples_of(model, 16), Context(detect()), "normal")
    judged = list[object]()
    monkeypatch.setattr(forms.judged, "of", lambda found: judged.append(found) or (0.0, 0.0))
    assert forms._try(QuantizeDynamic()) is None
    assert not judged
    assert forms._try(QuantizeStatic()) is not None
    assert len(judged) == 1
