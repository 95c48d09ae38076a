"""The best single bet comes first, and no candidate is lost."""

from math import inf
from types import SimpleNamespace

import numpy as np
import pytest

from onnxopt.model_file import memory, size_bytes
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.search import bets, optimize
from onnxopt.search.bets import TrialOrder, Workload, calibration_within, order_of, reads_rows, work_of
from onnxopt.search.candidates import calibrated_on, first_candidates, row_candidates, static_pass
from onnxopt.search.limits.deadline import Deadline
from onnxopt.target import TARGETS
from tests import builders
from tests.builders import F, Net


def work(name: str, target: str = "x86-vnni") -> Workload:
    model = builders.BUILDERS[name]()
    return work_of(
        model,
        builders.feeds_of(model, batch=1),
        size_bytes=size_bytes(model),
        sample_s=0.01,
        calibration=100,
        searched=100,
        target=TARGETS[target],
    )


def order(name: str) -> TrialOrder:
    return order_of(first_candidates(), work(name))


def shares(**of: float) -> TrialOrder:
    return order_of(first_candidates(), Workload(of, 1_000_000, 0.01, 100, 100, dot_products=True))


def test_convolutions_begin_with_static_and_products_and_lstms_with_dynamic() -> None:
    assert shares(convolution=0.95).bets[0].name == "static-minmax"
    assert shares(product=0.95).bets[0].name == "dynamic"
    assert shares(LSTM=0.95).bets[0].name == "dynamic"
    assert order("lstm").bets[0].name == "dynamic"


def test_dynamic_is_no_bet_where_convolutions_take_all_the_time() -> None:
    assert {"dynamic", "dynamic-float-graph", "simplify"} == {c.name for c in shares(convolution=0.97).late}


def test_depthwise_convolutions_are_distinguished_from_others() -> None:
    found = work("depthwise_separable").shares
    assert found["depthwise"] > 0
    assert work("residual_cnn").shares.get("depthwise", 0) == 0


def test_calibrations_of_one_graph_are_alike() -> None:
    found = shares(convolution=0.95)
    assert [c.name for c in found.bets] == ["static-minmax"]
    assert len(found.alike) == 5


def test_less_is_expected_without_dot_products() -> None:
    static = next(c for c in first_candidates() if c.name == "static-minmax")
    with_them = Workload({"convolution": 1.0}, 1000, 0.01, 100, 100, dot_products=True)
    without = Workload({"convolution": 1.0}, 1000, 0.01, 100, 100, dot_products=False)
    assert 1 < without.gain(static) < with_them.gain(static)


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_candidate_is_in_the_plan_of_every_model(name: str) -> None:
    assert sorted(c.name for c in order(name).all) == sorted(c.name for c in first_candidates())


def test_an_order_that_was_written_down_is_kept() -> None:
    first, second = shares(convolution=0.95), shares(product=0.95)
    assert second.ordered(first.words()) == first
    assert second.ordered(["static-minmax", "|", "|", "|"]) == second, "that is an order of other candidates"


@pytest.mark.parametrize(
    ("row", "size_bytes", "tried"), [(0.9, 20_000_000, True), (0.3, 20_000_000, False), (0.9, 1_000_000, False)]
)
def test_four_bits_are_tried_where_rows_read_more_weights_than_caches_hold(
    row: float, size_bytes: int, tried: bool
) -> None:
    assert reads_rows(Workload({"row": row}, size_bytes, 0.01, 100, 100, dot_products=True)) == tried


@pytest.mark.parametrize(("limit", "method"), [(10_000, "rtn"), (1_000_000_000, "hqq")])
def test_four_bits_of_a_model_above_the_limit_take_the_method_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, limit: int, method: str
) -> None:
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", limit)
    monkeypatch.setattr(bets, "_UNCACHED_BYTES", 1000)
    net = Net(0)
    net.node("MatMul", "x", net.weight(64, 64), out="y")
    model = net.model([("x", F, [1, 64])], [("y", F, [1, 64])], opset=17)
    trials = SimpleNamespace(
        model=model,
        feeds={"x": np.zeros((1, 64), np.float32)},
        sample_s=0.01,
        deadline=Deadline(None),
        parts=SimpleNamespace(calibration=range(10), search=range(10)),
        context=SimpleNamespace(target=TARGETS["x86-vnni"]),
    )
    tried = [c for c in optimize._planned(trials, 20_000).all if c.name == "weights-4bit"]  # type: ignore[arg-type]
    (spec,) = [p for c in tried for p in c.passes if isinstance(p, QuantizeWeights)]
    assert spec.method == method


def test_four_bits_are_the_first_bet_of_a_decoder_and_none_of_an_encoder() -> None:
    candidates = (*first_candidates(), *row_candidates())
    decoder, encoder = (
        Workload({kind: 0.95}, 20_000_000, 0.01, 100, 100, dot_products=True) for kind in ("row", "product")
    )
    assert order_of(candidates, decoder).bets[0].name == "weights-4bit"
    assert "weights-4bit" in [c.name for c in order_of(candidates, encoder).late]


def test_a_slow_model_calibrates_on_fewer_samples_where_time_is_limited() -> None:
    assert calibration_within(30, 0.1, 48) < 48
    # Twice the time, twice the samples, and never fewer than some.
    assert calibration_within(400, 0.5, 1000) == 2 * calibration_within(200, 0.5, 1000) == 40
    assert calibration_within(0, 0.1, 48) == calibration_within(1, 100, 48) == 16
    assert calibration_within(1, 100, 10) == 10
    for left_s, sample_s in ((inf, 0.1), (30, 0.0), (300, 0.001)):
        assert calibration_within(left_s, sample_s, 48) == 48
        assert calibration_within(left_s, sample_s, 1000) == 128


def test_only_calibrations_are_limited_and_never_raised() -> None:
    for candidate in first_candidates():
        few, many = calibrated_on(candidate, 16), calibrated_on(candidate, 1000)
        static = static_pass(few)
        assert many == candidate
        assert (few == candidate) == (static is None)
        assert static is None or static.samples == 16
        assert few.name == candidate.name
