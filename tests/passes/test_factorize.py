"""Layers become chains that lose as little as they can, that are proved, and that are faster or undone."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.errors import NativeError, UsageError
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure import verdict
from onnxopt.measure.latency.latency_table import LatencyTable
from onnxopt.passes import factorize
from onnxopt.passes.factorize import Factorize
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.reconstruction import factorizable
from onnxopt.reconstruction.linear import linear_layers
from onnxopt.reconstruction.low_rank import attempt
from onnxopt.reconstruction.low_rank.chain_timer import in_place
from onnxopt.reconstruction.low_rank.forms import FORMS
from onnxopt.reconstruction.low_rank.layer_statistics import weight_of
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net


def mlp() -> ir.Model:
    """Three products of 64 whose weights have a few strong directions each, and ReLUs between them."""
    net = Net(60)
    x = "x"
    for number in range(3):
        left, right = (net.rng.standard_normal((64, 64)) / 8 for _ in range(2))
        weight = net.const((left * np.logspace(0.6, -1.5, 64) @ right).astype(np.float32))
        x = net.node("Gemm", x, weight, net.weight(64), transB=1, name=f"fc{number}")
        x = net.node("Relu", x)
    net.node("Gemm", x, net.weight(64, 64), net.weight(64), transB=1, out="y", name="head")
    return net.model([("x", F, ["batch", 64])], [("y", F, ["batch", 64])])


def in_groups() -> ir.Model:
    net = Net(63)
    x = net.node("Relu", net.conv("x", 3, 16, name="conv0"))
    x = net.node("Relu", net.conv(x, 16, 24, group=2, name="two", strides=[2, 2]))
    x = net.node("Relu", net.conv(x, 24, 24, group=4, name="four", bias=False))
    net.pool_fc(x, 24, 4)
    return net.model([builders.IMAGE], [builders.CLASSES])


def convnet() -> ir.Model:
    net = Net(61)
    x = net.node("Relu", net.conv("x", 3, 16, name="conv0"))
    x = net.node("Relu", net.conv(x, 16, 24, strides=[2, 2], name="conv1"))
    x = net.node("Relu", net.conv(x, 24, 24, group=24, name="depthwise"))
    x = net.node("Relu", net.conv(x, 24, 16, k=1, name="point"))
    net.pool_fc(x, 16, 4)
    return net.model([builders.IMAGE], [builders.CLASSES])


def mixed(model: ir.Model, count: int = 200) -> Samples:
    """Samples whose features depend on each other, as those of real data do."""

    class Mixed(builders.Made):
        def read(self, index):
            feeds = super().read(index)
            mix = np.random.default_rng(5).standard_normal((64, 64)) * np.logspace(0.3, -1.5, 64)
            return {name: (array @ mix).astype(np.float32) for name, array in feeds.items()}

    return Samples.of(Mixed(model, count), 8)


def run(model: ir.Model, samples: Samples | None = None, **options) -> tuple[ir.Model, Step]:
    options = {"verify": False, "round_to": 4, **options}
    result = Pipeline((Factorize(**options),)).run(model, Context(target_of("x86-vnni"), samples))
    return result.model, result.steps[0]


def factorized(step: Step) -> set[str]:
    return {edit.target for edit in step.edits if edit.target != "graph"}


def output_error(model: ir.Model, other: ir.Model, samples: Samples, value: str | None = None) -> float:
    before, after = (np.concatenate([builders.run(m, dict(f))[0] for f in samples]) for m in (model, other))
    return float(np.square(before - after).sum() / np.square(before - before.mean(0)).sum())


@pytest.mark.parametrize("aware", [False, True])
def test_each_goal_is_reached(aware: bool) -> None:
    model = mlp()
    samples = mixed(model) if aware else None
    whole = anatomy_of(model).macs
    by_macs, _ = run(model, samples, macs=0.6)
    assert 0.4 * whole < anatomy_of(by_macs).macs <= 0.6 * whole
    _, step = run(model, samples, rank_ratio=0.25)
    assert len(factorized(step)) == 4
    assert all("rank 16" in edit.action for edit in step.edits)
    by_energy, _ = run(model, samples, energy=0.9)
    strict, _ = run(model, samples, max_error=0.1)
    assert anatomy_of(by_energy).macs < anatomy_of(strict).macs


def test_what_is_shipped_is_proved_to_be_the_product() -> None:
    for model, samples in ((mlp(), mixed(mlp())), (convnet(), builders.samples_of(convnet(), 32))):
        _, step = run(model, samples, rank_ratio=0.5)
        assert factorized(step)
        assert step.difference is not None
        assert step.difference < numerics.EXACT_RELATIVE


def test_a_wrong_chain_is_not_kept(monkeypatch) -> None:
    def broken(model, chains):
        wrong = {name: [(weight * 1.01, axes) for weight, axes in stages] for name, stages in chains.items()}
        return original(model, wrong)

    original = factorizable.replace_by_chains
    monkeypatch.setattr(factorizable, "replace_by_chains", broken)
    model = mlp()
    result, step = run(model, rank_ratio=0.25)
    assert not step.edits
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert any("its outputs differ" in skip.reason for skip in step.skipped)


@pytest.mark.parametrize(
    ("make", "names", "form"),
    [
        (mlp, ("fc0", "fc1", "fc2", "head"), "channel"),
        *((convnet, ("conv1",), form) for form in FORMS),
        (convnet, ("point",), "channel"),
        (in_groups, ("two", "four"), "channel"),
    ],
)
def test_samples_make_every_layer_lose_less_on_them(make, names: tuple[str, ...], form: str) -> None:
    """Each layer by itself, so that nothing else decides."""
    model = make()
    samples = mixed(model) if make is mlp else builders.samples_of(model, 32)
    layers = {node.name for node in model.graph if node.op_type in ("Conv", "Gemm")}
    for name in names:
        options = {"rank_ratio": 0.4, "round_to": 2, "forms": (form,), "exclude": tuple(layers - {name})}
        plain, _ = run(model, samples, data_aware=False, **options)
        aware, step = run(model, samples, **options)
        assert factorized(step) == {name}
        inner = [layer_output(m, name, samples) for m in (model, plain, aware)]
        lost = [np.square(inner[0] - other).sum() for other in inner[1:]]
        assert lost[1] <= lost[0]


@pytest.mark.parametrize("aware", [False, True])
def test_convolutions_in_groups_stay_in_groups(aware: bool) -> None:
    model = in_groups()
    result, step = run(model, builders.samples_of(model, 32) if aware else None, rank_ratio=0.5)
    assert {"two", "four"} <= factorized(step)
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE
    groups = Counter(node.attributes["group"].as_int() for node in result.graph if "group" in node.attributes)
    assert {number: count for number, count in groups.items() if number > 1} == {2: 2, 4: 2}


def layer_output(model: ir.Model, name: str, samples: Samples) -> np.ndarray:
    cut = model.clone()
    (value,) = next(n for n in cut.graph if n.name == name).outputs
    if not value.is_graph_output():
        cut.graph.outputs[0] = value
    return np.concatenate([builders.run(cut, dict(f))[0] for f in samples])


def test_layers_fitted_in_sequence_lose_less_together() -> None:
    model = mlp()
    samples = mixed(model)
    lost = [
        output_error(model, run(model, samples, rank_ratio=0.2, **options)[0], samples)
        for options in ({"data_aware": False}, {"sequential": False}, {})
    ]
    assert lost[2] < lost[1] < lost[0]


@pytest.mark.parametrize("form", ["channel", "input", "tucker", "spatial"])
@pytest.mark.parametrize("aware", [False, True])
def test_every_form_of_a_convolution(form: str, aware: bool) -> None:
    model = convnet()
    samples = builders.samples_of(model, 32) if aware else None
    result, step = run(model, samples, rank_ratio=0.5, round_to=2, forms=(form,), exclude=("conv0",))
    assert "conv1" in factorized(step)
    assert next(f"{form} form" in edit.action for edit in step.edits if edit.target == "conv1")
    convolutions = Counter(node.op_type for node in result.graph)["Conv"]
    assert convolutions >= 4 + (2 if form == "tucker" else 1)
    assert builders.run(result, builders.feeds_of(model))[0].shape == (2, 4)


def test_what_stays_says_why() -> None:
    _, step = run(convnet(), rank_ratio=0.5, round_to=2, exclude=("point",))
    reasons = {skip.target: skip.reason for skip in step.skipped}
    assert reasons["depthwise"] == "each of its channels is a separate group"
    assert reasons["point"] == "excluded by name"
    _, step = run(convnet(), round_to="auto")
    assert all("too small" in skip.reason or "a separate group" in skip.reason for skip in step.skipped)
    assert not step.edits


def test_every_layer_is_factorized_or_says_why_once() -> None:
    layers = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
    for make in builders.BUILDERS.values():
        model = make()
        _, step = run(model, rank_ratio=0.5, round_to=1)
        names = [*factorized(step), *(skip.target for skip in step.skipped if skip.target != "graph")]
        assert len(names) == len(set(names))
        assert {node.name for node in normalized(model).graph if node.op_type in layers} == set(names)
        assert all(skip.reason for skip in step.skipped)


def test_ranks_fill_the_registers_of_the_target() -> None:
    for target, block in (("x86-vnni", 16), ("x86-avx2", 8)):
        spec = Factorize(energy=0.5, verify=False)
        result = Pipeline((spec,)).run(mlp(), Context(target_of(target))).model
        ranks = [min(weight_of(result, layer).shape) for layer in linear_layers(result).values()]
        assert min(ranks) == block


def test_without_samples_only_what_stands_out_of_noise_is_kept() -> None:
    net = Net(62)
    strong = 4 * net.rng.standard_normal((64, 5)) @ net.rng.standard_normal((5, 64))
    noise = net.rng.standard_normal((64, 64))
    x = net.node("Gemm", "x", net.const((strong + noise).astype(np.float32)), name="signal")
    net.node("Gemm", x, net.const(net.rng.standard_normal((64, 64)).astype(np.float32)), out="y", name="noise")
    model = net.model([("x", F, ["batch", 64])], [("y", F, ["batch", 64])])
    _, step = run(model)
    assert [(e.target, e.action.split(":")[0]) for e in step.edits] == [("signal", "channel form, rank 8")]
    assert {s.target: s.reason for s in step.skipped}["noise"] == "too many of its singular values stand out of noise"


def test_a_goal_out_of_reach_is_reported() -> None:
    model = mlp()
    result, step = run(model, macs=0.01)
    assert anatomy_of(result).macs > 0.01 * anatomy_of(model).macs
    assert any("goal missed" in skip.reason for skip in step.skipped)


def test_goals_that_contradict_each_other() -> None:
    with pytest.raises(UsageError) as caught:
        run(mlp(), energy=0.9, macs=0.5)
    assert caught.value.code == "ONX109"


def test_a_name_that_is_none_of_the_models() -> None:
    with pytest.raises(UsageError) as caught:
        run(mlp(), exclude=("fc9",))
    assert caught.value.code == "ONX102"


def test_what_is_not_faster_is_undone(monkeypatch) -> None:
    asked = []

    def slow(before, after, feeds):
        asked.append(after)
        return 1.1, ""

    monkeypatch.setattr(attempt, "time_share", slow)
    model = mlp()
    result, step = run(model, rank_ratio=0.25, verify=True)
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert not step.edits
    assert sum("1.10 of the time" in skip.reason for skip in step.skipped) == 4
    assert len(asked) == 3


def test_the_part_that_is_faster_stays(monkeypatch) -> None:
    shares = iter([1.2, 0.9])
    monkeypatch.setattr(attempt, "time_share", lambda *_: (next(shares), ""))
    _, step = run(mlp(), rank_ratio=0.25, verify=True)
    assert len(factorized(step)) == 2
    assert step.edits[-1].action == "measured to be faster than the original"
    assert sum("undone" in skip.reason for skip in step.skipped) == 2


def test_an_emulated_processor_cannot_verify(monkeypatch) -> None:
    def refuse(*_, **__):
        raise NativeError("ONX403", "latency is not measured under emulation", why="QEMU")

    monkeypatch.setattr(verdict, "measure_latency", refuse)
    _, step = run(mlp(), rank_ratio=0.25, verify=True)
    assert len(factorized(step)) == 4
    assert any(skip.reason == "not verified to be faster: QEMU" for skip in step.skipped)


def table_by(time_ms, monkeypatch) -> None:
    """Let a weight take what `time_ms` says of its smaller side, instead of being measured."""

    def clock(models, feeds, runtime):
        matrices = [[v.const_value.shape.numpy() for v in m.graph.initializers.values()] for m in models]
        return [sum(time_ms(min(shape)) for shape in shapes if len(shape) == 2) for shapes in matrices]

    table = LatencyTable(None, clock=clock, emulation=lambda: None)
    monkeypatch.setattr(factorize, "LatencyTable", lambda folder: table)
    monkeypatch.setattr(factorize, "layer_times_ms", lambda *_: {})


def test_a_layer_takes_no_more_than_inside_the_model() -> None:
    timer = in_place(lambda layer, choices: [8.0, *(2.0 for _ in choices)], {"half": 4.0, "more": 9.0})
    times = {name: timer(SimpleNamespace(node=name), (None,)) for name in ("half", "more", "unknown")}
    assert times == {"half": [4.0, 1.0], "more": [8.0, 2.0], "unknown": [8.0, 2.0]}


def test_measured_times_decide_which_layers_pay(monkeypatch) -> None:
    """A table in which only the ranks below 16 of chains are fast."""
    table_by(lambda rank: 0.25 if rank < 16 else 1.0, monkeypatch)
    _, step = run(mlp(), rank_ratio=0.9, measured=True)
    assert factorized(step)
    assert all("rank 12" in edit.action for edit in step.edits if edit.target != "graph")


@pytest.mark.parametrize("aware", [False, True])
def test_a_share_of_the_time_is_predicted_from_the_layers(monkeypatch, aware: bool) -> None:
    """Four layers of 64 ms each, whose chains take twice their rank."""
    table_by(float, monkeypatch)
    model = mlp()
    _, step = run(model, mixed(model) if aware else None, latency=0.5)
    ranks = [int(e.action.split("rank ")[1].split(":")[0]) for e in step.edits if e.target != "graph"]
    predicted = (2 * sum(ranks) + 64 * (4 - len(ranks))) / 256
    assert 0.4 < predicted <= 0.5
    assert step.edits[-1].action == f"predicted to take {100 * predicted:.0f} % of the time"


def test_a_share_of_the_time_that_was_missed_is_aimed_at_again(monkeypatch) -> None:
    table_by(float, monkeypatch)
    shares = iter([0.7, 0.5])
    monkeypatch.setattr(attempt, "time_share", lambda *_: (next(shares), ""))
    _, step = run(mlp(), latency=0.5, verify=True)
    assert step.edits[-1].action == "predicted to take 28 % of the time, measured 50 %"
    assert not any("not reached" in skip.reason for skip in step.skipped)


def test_what_is_out_of_reach_is_not_paid_for(monkeypatch) -> None:
    """The attempts that aim lower than asked do not get there either, so the first one is kept."""
    table_by(float, monkeypatch)
    for shares, kept in (((0.9, 0.85, 0.8), 0.9), ((1.1, 0.85, 0.8), 0.85)):
        measured = iter(shares)
        monkeypatch.setattr(attempt, "time_share", lambda *_, left=measured: (next(left), ""))
        _, step = run(mlp(), latency=0.5, verify=True)
        assert any(
            skip.reason == f"goal missed: 50 % of the time, {100 * kept:.0f} % measured" for skip in step.skipped
        )
        assert step.edits[-1].action.endswith(f"measured {100 * kept:.0f} %")


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("aware", [False, True])
def test_the_input_product_of_recurrent_layers(op: str, aware: bool) -> None:
    net, rows = Net(64), {"LSTM": 4, "GRU": 3}[op] * 16
    mix = net.rng.standard_normal((2 * rows, 40)) * np.logspace(0, -3, 40) @ net.rng.standard_normal((40, 40)) / 6
    weight = net.const(mix.reshape(2, rows, 40).astype(np.float32))
    states = (weight, net.weight(2, rows, 16), net.weight(2, 2 * rows))
    net.node(op, "x", *states, out="y", name="cell", hidden_size=16, direction="bidirectional")
    model = net.model([("x", F, [7, "batch", 40])], [("y", F, [7, 2, "batch", 16])])
    samples = builders.samples_of(model, 1) if aware else None
    result, step = run(model, samples, rank_ratio=0.3)
    assert factorized(step) == {"cell"}
    assert [node.op_type for node in result.graph] == ["MatMul", op]
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE
    assert anatomy_of(result).parameters < 0.8 * anatomy_of(model).parameters
    feeds = builders.feeds_of(model)
    before, after = builders.run(model, feeds)[0], builders.run(result, feeds)[0]
    assert np.square(after - before).sum() < 0.1 * np.square(before).sum()
    _, step = run(model, samples, rank_ratio=0.3, exclude=("cell",))
    assert [(skip.target, skip.reason) for skip in step.skipped] == [("cell", "excluded by name")]


def test_half_precision_stays_half() -> None:
    model = builders.BUILDERS["half_weights"]()
    result, step = run(model, rank_ratio=0.5, round_to=1)
    assert step.edits
    kinds = {v.const_value.dtype for v in result.graph.initializers.values() if "_factor" in (v.name or "")}
    assert kinds == {ir.DataType.FLOAT16}
