"""Infinities, masks, giants and joins: what is left in float, what is clipped, and that the better of both is kept."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import DataError
from onnxopt.graph.edit import set_weight
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.pipeline import Context, Observations, Optimized, Pipeline
from onnxopt.quantization import closeness
from onnxopt.quantization.built import Built
from onnxopt.quantization.calibration import ranges
from onnxopt.quantization.calibration.calibrate import Calibration, calibrate
from onnxopt.quantization.calibration.histogram import Extremes, Range
from onnxopt.quantization.closeness import BEST_DB
from onnxopt.quantization.placement import static_plan
from onnxopt.quantization.placement.joins import heads_apart, inner_apart
from onnxopt.quantization.placement.static_plan import StaticPlan, decide
from onnxopt.samples import Samples
from onnxopt.samples.open import open_samples
from onnxopt.target import detect
from tests import builders, numerics
from tests.builders import F, Net

WIDTH, TIME = 16, 6
B = 9
"""The element type of booleans."""
SPECS = ("quantize-static", "quantize-static{form=qoperator}", "quantize-static{method=percentile}")


def attention(mask: float, how: str) -> ir.Model:
    """Return masked attention with a residual; the mask replaces scores (`where`) or is added to them."""
    net = Net(5)
    q, k, v = (net.node("MatMul", "x", net.weight(WIDTH, WIDTH)) for _ in range(3))
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1]))
    keep = net.node("Unsqueeze", "mask", net.ints(1))
    value = net.const(np.float32(mask))
    if how == "where":
        masked = net.node("Where", keep, scores, value, name="masking")
    else:
        bias = net.node("Where", keep, net.const(np.float32(0)), value, name="bias")
        masked = net.node("Add", scores, bias, name="masking")
    mixed = net.node("MatMul", net.node("Softmax", masked, axis=-1), v)
    net.node("Add", net.node("MatMul", mixed, net.weight(WIDTH, WIDTH)), "x", out="y")
    return net.model([("x", F, ["N", TIME, WIDTH]), ("mask", B, ["N", TIME])], [("y", F, ["N", TIME, WIDTH])])


def masked_samples(model: ir.Model, fewest: int = 1) -> Samples:
    rng = np.random.RandomState(3)
    x = rng.standard_normal((16, TIME, WIDTH)).astype(np.float32)
    lengths = rng.randint(fewest, TIME + 1, 16)
    if fewest == 0:
        lengths[3] = 0
    return open_samples({"x": x, "mask": np.arange(TIME) < lengths[:, None]}, signature_of(model))


def ran(model: ir.Model, samples: Samples, spec: str) -> tuple[Optimized, float]:
    """Return the quantized model and its SQNR where the float model gives numbers."""
    result = Pipeline(parse(spec)).run(model, Context(detect(), samples))
    before, after = (
        np.concatenate([builders.run(m, dict(f))[0].ravel() for f in samples.with_batch_size(1)])
        for m in (model, result.model)
    )
    known = np.isfinite(before)
    return result, numerics.sqnr_db(before[known], after[known])


def reasons(result: Optimized) -> dict[str, str]:
    return {s.target: s.reason for s in result.steps[0].skipped}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("how", ["where", "add"])
@pytest.mark.parametrize("mask", [-np.inf, float(np.finfo(np.float32).min), -1e9], ids=str)
def test_masked_attention_stays_close(mask: float, how: str, spec: str) -> None:
    model = attention(mask, how)
    result, db = ran(model, masked_samples(model), spec)
    assert db > numerics.INT8_SQNR_DB
    assert len([e for e in result.steps[0].edits if e.action.startswith("MatMul")]) >= 4
    assert "masking" not in {e.target for e in result.steps[0].edits}
    assert not [e for e in result.steps[0].edits if "range ends" in e.action]


@pytest.mark.parametrize("spec", SPECS)
def test_rows_of_padding_that_give_nan_are_left_out_counted_and_named(spec: str) -> None:
    model = attention(-np.inf, "where")
    samples = masked_samples(model, fewest=0)
    empty = sum(not feeds["mask"].any() for feeds in samples.with_batch_size(1))
    result, db = ran(model, samples, spec)
    assert db > numerics.INT8_SQNR_DB
    (said,) = [s.reason for s in result.steps[0].skipped if "NaN" in s.reason]
    assert f"{empty * TIME * TIME} values" in said


def test_samples_of_nothing_but_nan_behind_the_input_are_no_crash() -> None:
    net = Net(1)
    net.node("MatMul", net.node("Sqrt", net.node("Sub", "x", net.const(np.float32(99)))), net.weight(8, 4), out="y")
    model = net.model([builders.ROWS], [builders.CLASSES], opset=13)
    result = Pipeline(parse("quantize-static")).run(model, Context(detect(), builders.samples_of(model)))
    assert not [e for e in result.steps[0].edits if e.target == "MatMul_2"]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("giant", [-1e9, 1e5])
def test_padding_with_a_giant_does_not_ruin_the_range_of_all_others(giant: float, spec: str) -> None:
    net = Net(8)
    hidden = net.node("Relu", net.conv("x", 3, 8, name="conv"))
    padded = net.node("Pad", hidden, net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.const(np.float32(giant)), name="pad")
    sign = "Relu" if giant < 0 else "Neg"  # what is read of the padded map is bounded
    pooled = net.node("MaxPool", net.node(sign, padded), kernel_shape=[2, 2], strides=[2, 2])
    net.node("Conv", pooled, net.weight(4, 8, 3, 3), pads=[1] * 4, kernel_shape=[3, 3], name="last", out="y")
    model = net.model([builders.IMAGE], [("y", F, None)], opset=13)
    result, db = ran(model, builders.samples_of(model, count=8), spec)
    assert db > numerics.INT8_SQNR_DB
    assert "conv" in {e.target for e in result.steps[0].edits}


def outlier_samples(model: ir.Model, size: float) -> Samples:
    x = np.random.RandomState(4).standard_normal((16, 8)).astype(np.float32)
    x[5] *= size
    return open_samples({"x": x}, signature_of(model))


def test_one_outlier_sample_does_not_ruin_the_range_of_all_others() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    samples = outlier_samples(model, 1e4)
    result, _ = ran(model, samples, "quantize-static")
    quiet = samples.select(np.delete(samples.indices, 5)).with_batch_size(1)
    before, after = (
        np.concatenate([builders.run(m, dict(f))[0].ravel() for f in quiet]) for m in (model, result.model)
    )
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB
    step = result.steps[0]
    assert any("louder" in e.action or "reach" in e.action for e in step.edits) or any(
        "far from all others" in s.reason for s in step.skipped
    )


class Judged:
    """Stands for `Closeness`: what each form is worth is given."""

    def __init__(self, worth: Mapping[str, float]) -> None:
        self.worth = worth

    def __call__(self, before: ir.Model, samples: object, outputs: object = None) -> "Judged":
        return self

    def ratios(self, session: Session) -> list[list[float]]:
        return [[self.worth[session.metadata["form"]]]]


def forms(make: Callable[[], ir.Model], *names: str) -> Iterator[ir.Model]:
    """Return equal models that `Judged` can tell apart."""
    for name in names:
        model = make()
        model.metadata_props["form"] = name
        yield model


@pytest.mark.parametrize(("clipped_db", "taken"), [(29.0, False), (30.5, False), (31.0, True)])
def test_a_clipped_range_is_kept_only_where_the_outputs_are_closer(
    clipped_db: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clipped_form, float_form = forms(builders.BUILDERS["gemm_mlp"], "plain", "clipped", "float")
    wide, tight = Range(-1e5, 1e5), Range(-2.0, 2.0)
    calibration = Calibration({"x": Extremes(-1e5, 1e5, -1e5, 1e5)}, {"x": wide}, {"x": tight}, {}, ())
    judged = Judged({"plain": 30.0, "clipped": clipped_db, "float": 32.0})
    monkeypatch.setattr(static_plan, "Closeness", judged)

    def make(ranges: Mapping[str, Range], left: tuple[str, ...]) -> Built:
        return Built(float_form if left else clipped_form if ranges["x"] is tight else model)

    samples = builders.samples_of(model)
    plan: StaticPlan = decide(model, calibration, make, nodes=list(model.graph), obstacles={}, samples=samples)
    assert (plan.ranges["x"] is tight) == taken
    assert bool(plan.clipped) == taken
    assert not plan.left  # 2 dB more are not worth it


def test_only_the_form_that_is_taken_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clipped_form = forms(builders.BUILDERS["gemm_mlp"], "plain", "clipped")
    wide, tight = Range(-1e5, 1e5), Range(-2.0, 2.0)
    calibration = Calibration({"x": Extremes(-1e5, 1e5, -1e5, 1e5)}, {"x": wide}, {}, {"x": tight}, ())
    monkeypatch.setattr(static_plan, "Closeness", Judged({"plain": 30.0, "clipped": 35.0}))
    read = list[ir.Model]()

    def make(ranges: Mapping[str, Range], left: tuple[str, ...]) -> Built:
        form = clipped_form if ranges["x"] is tight else model
        op_types = {node.op_type for node in form.graph}
        return Built(lambda: read.append(form) or form, to_bytes(form), op_types)  # type: ignore[func-returns-value]

    samples = builders.samples_of(model)
    plan = decide(model, calibration, make, nodes=list(model.graph), obstacles={}, samples=samples)
    assert not read
    assert plan.model is plan.model is clipped_form
    assert read == [clipped_form]


@pytest.mark.parametrize("opened", [True, False])
def test_the_session_that_gave_the_ranges_gives_the_expected_outputs(
    opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed before a quantized form is built; where the ranges were known before, there is none."""
    model = builders.BUILDERS["gemm_mlp"]()
    samples = builders.samples_of(model)
    watch = ranges.Watch(model, ["x"])
    if opened:
        watch.opened()
    wide, loud = Range(-1e5, 1e5), Range(-2.0, 2.0)
    calibration = Calibration({"x": Extremes(-1e5, 1e5, -1e5, 1e5)}, {"x": wide}, {}, {"x": loud}, (), watch)
    sessions = list[Session]()

    def seen(*given: object) -> Session:
        sessions.append(Session(*given))  # type: ignore[arg-type]
        return sessions[-1]

    monkeypatch.setattr(closeness, "Session", seen)

    def make(ranges: Mapping[str, Range], left: tuple[str, ...]) -> Built:
        assert not watch.is_open
        return Built(model)

    decide(model, calibration, make, nodes=list(model.graph), obstacles={}, samples=samples)
    assert len(sessions) == (0 if opened else 1)


@pytest.mark.parametrize(("plain_db", "builds"), [(58.9, 2), (59.1, 1)])
def test_what_cannot_be_closer_by_enough_is_not_built(
    plain_db: float, builds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clipped_form = forms(builders.BUILDERS["gemm_mlp"], "plain", "clipped")
    wide, loud = Range(-1e5, 1e5), Range(-2.0, 2.0)
    calibration = Calibration({"x": Extremes(-1e5, 1e5, -1e5, 1e5)}, {"x": wide}, {}, {"x": loud}, ())
    monkeypatch.setattr(static_plan, "Closeness", Judged({"plain": plain_db, "clipped": BEST_DB}))
    built = list[Range]()

    def make(ranges: Mapping[str, Range], left: tuple[str, ...]) -> Built:
        built.append(ranges["x"])
        return Built(clipped_form if ranges["x"] is loud else model)

    samples = builders.samples_of(model)
    plan = decide(model, calibration, make, nodes=list(model.graph), obstacles={}, samples=samples)
    assert built == [wide, loud][:builds]
    assert bool(plan.clipped) == (builds == 2)


def long_chain() -> ir.Model:
    net, last = Net(2), "x"
    for _ in range(11):
        last = net.node("Tanh", last)
    net.node("Tanh", last, out="y")
    return net.model([builders.ROWS], [("y", F, ["batch", 8])])


@pytest.mark.parametrize(("part_db", "alike", "builds"), [(55.0, True, 2), (40.0, True, 3), (55.0, False, 3)])
def test_a_remedy_is_not_built_where_the_noise_of_its_nodes_alone_is_too_small(
    part_db: float, alike: bool, builds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise 25 dB below the whole, it is at most 0.5 dB lower; nodes that lose their scale prove nothing."""
    model, part, clipped_form = forms(long_chain, "plain", "part", "clipped")
    for one in (model, part, clipped_form) if alike else (model, clipped_form):
        scale = ir.Value(name="x_scale")
        set_weight(scale, np.ones((), np.float32))
        one.graph.register_initializer(scale)
    wide, loud = Range(-1e5, 1e5), Range(-2.0, 2.0)
    calibration = Calibration({"x": Extremes(-1e5, 1e5, -1e5, 1e5)}, {"x": wide}, {}, {"x": loud}, ())
    monkeypatch.setattr(static_plan, "Closeness", Judged({"plain": 30.0, "part": part_db, "clipped": BEST_DB}))
    built = list[tuple[str, ...]]()

    def make(ranges: Mapping[str, Range], left: tuple[str, ...]) -> Built:
        built.append(left)
        return Built(part if left else clipped_form if ranges["x"] is loud else model)

    _, *others = (node.name or "" for node in model.graph)
    samples = builders.samples_of(model)
    plan = decide(model, calibration, make, nodes=list(model.graph), obstacles={}, samples=samples)
    assert built[:2] == [(), tuple(others)]
    assert len(built) == builds
    assert bool(plan.clipped) == (builds == 3)


def test_a_mask_is_never_clipped_however_close_the_outputs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clipped_form, float_form = forms(lambda: attention(-1e5, "add"), "plain", "clipped", "float")
    (masked,) = (n.outputs[0].name or "" for n in model.graph if n.name == "bias")
    calibration = Calibration(
        {masked: Extremes(-1e5, 0, -1e5, 0)}, {masked: Range(-1e5, 0)}, {masked: Range(-2.0, 0)}, {}, ()
    )
    monkeypatch.setattr(static_plan, "Closeness", Judged({"plain": 30.0, "clipped": 50.0, "float": 31.0}))

    def make(ranges: Mapping[str, Range], left: tuple[str, ...]) -> Built:
        return Built(float_form if left else clipped_form if ranges[masked].low == -2 else model)

    plan = decide(model, calibration, make, nodes=list(model.graph), obstacles={}, samples=masked_samples(model))
    assert not plan.clipped
    assert {"bias", "masking"} <= plan.left.keys()


def joined(behind: bool, scale: float = 300.0, op: str = "Concat") -> ir.Model:
    """Return boxes and scores of one layer's input, joined into the output, or read by a further layer."""
    net = Net(6)
    inner = net.node("Relu", net.node("MatMul", "x", net.weight(8, 16)))
    boxes = net.node("Mul", net.node("MatMul", inner, net.weight(16, 4)), net.const(np.float32(scale)))
    scores = net.node("Sigmoid", net.node("MatMul", inner, net.weight(16, 4)))
    join = net.node(op, boxes, scores, name="join", **({"axis": 1} if op == "Concat" else {}))
    wide = 8 if op == "Concat" else 4
    last = net.node("Reshape", join, net.ints(-1, wide), name="moved")
    if behind:
        net.node("MatMul", last, net.weight(wide, 4), out="y", name="reader")
    else:
        net.node("Identity", last, out="y")
    return net.model([builders.ROWS], [("y", F, ["batch", 4 if behind else wide])], opset=13)


@pytest.mark.parametrize("spec", SPECS)
def test_scores_beside_boxes_in_pixels_stay_alive(spec: str) -> None:
    model = joined(behind=False)
    samples = builders.samples_of(model, 16)
    result = Pipeline(parse(spec)).run(model, Context(detect(), samples))
    before, after = (
        np.concatenate([builders.run(m, dict(f))[0][:, 4:] for f in samples]) for m in (model, result.model)
    )
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB
    assert "ranges differ" in reasons(result)["join"]


RANGES = {"a": Range(-320, 320), "b": Range(0, 1)}


@pytest.mark.parametrize(("other", "apart"), [(19.9, True), (20.0, True), (20.1, False), (320.0, False)])
def test_tensors_are_apart_from_sixteen_times_on(other: float, apart: bool) -> None:
    net = Net(1)
    net.node("Concat", "a", "b", axis=1, name="join", out="y")
    model = net.model([("a", F, [1, 2]), ("b", F, [1, 2])], [("y", F, [1, 4])])
    assert bool(heads_apart(model, {"a": Range(-320, 320), "b": Range(0, other)})) == apart


def test_a_join_takes_what_moves_its_values_along_and_inner_ones_their_readers() -> None:
    head, inner = joined(behind=False), joined(behind=True)
    for model, found, expected in (
        (head, heads_apart, {"join", "moved"}),
        (inner, inner_apart, {"join", "moved", "reader"}),
    ):
        sources = [v.name or "" for v in next(n for n in model.graph if n.name == "join").inputs if v is not None]
        ranges = dict(zip(sources, RANGES.values(), strict=True))
        assert expected <= set(found(model, ranges))
    assert not heads_apart(inner, {})
    assert not inner_apart(joined(behind=True, op="Add"), {})


def test_probabilities_reach_to_one_whatever_clips() -> None:
    model = joined(behind=False)
    sigmoid = next(n for n in model.graph if n.op_type == "Sigmoid").outputs[0].name or ""
    samples = builders.samples_of(model, 16).with_batch_size(1)
    clipped = calibrate(model, [sigmoid, "x"], samples, method="percentile", percentile=60.0, cache=Observations())
    assert clipped.ranges[sigmoid] == Range(0.0, 1.0)
    assert clipped.ranges["x"].high < clipped.extremes["x"].high


def test_a_score_that_is_rare_is_no_outlier() -> None:
    net = Net(7)
    net.node("Sigmoid", net.node("Sub", "x", net.const(np.float32(12))), out="y")
    model = net.model([builders.ROWS], [("y", F, ["batch", 8])], opset=13)
    x = np.random.RandomState(0).standard_normal((16, 8)).astype(np.float32)
    x[3, 2] = 20
    samples = open_samples({"x": x}, signature_of(model)).with_batch_size(1)
    found = calibrate(model, ["x", "y"], samples, method="minmax", percentile=99.99, cache=Observations())
    assert not {"y"} & (found.without_giants.keys() | found.without_loud.keys())
    assert found.extremes["y"].high > 0.99


def test_constant_samples_are_still_refused() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    samples = open_samples({"x": np.ones((4, 8), np.float32)}, signature_of(model))
    with pytest.raises(DataError, match="ONX205"):
        Pipeline(parse("quantize-static")).run(model, Context(detect(), samples))
