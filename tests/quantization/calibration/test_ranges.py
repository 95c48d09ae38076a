"""Ranges of activations: inside what was seen, around zero, and the same however the samples are batched."""

import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.pipeline import Observations
from onnxopt.quantization.calibration import calibrate as calibrate_module
from onnxopt.quantization.calibration import calibrators, divergence, ranges
from onnxopt.quantization.calibration.calibrate import calibrate
from onnxopt.quantization.calibration.calibrators import METHODS
from onnxopt.quantization.calibration.histogram import BINS, Histogram, Range
from onnxopt.samples import Samples
from tests import builders, strategies
from tests.builders import Net


class Given:
    """Samples of one input, as they are."""

    name, labels, stacks = "given", None, True

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {"x": self.array[index]}


def relu() -> Any:
    net = Net(0)
    net.node("Relu", "x", out="y")
    return net.model([("x", TensorProto.FLOAT, ["batch", "n"])], [("y", TensorProto.FLOAT, ["batch", "n"])], opset=13)


def histograms_of(model: Any, names: list[str], samples: Samples) -> dict[str, Histogram]:
    return ranges.histograms(model, samples, ranges.extremes(model, names, samples))


def collected(array: np.ndarray, batch_size: int = 1) -> dict[str, Histogram]:
    return histograms_of(relu(), ["x", "y"], Samples.of(Given(array), batch_size))


def histogram(values: np.ndarray) -> Histogram:
    return collected(values[None])["x"]


@settings(max_examples=80)
@given(strategies.activations())
def test_every_range_lies_inside_what_was_seen_and_holds_zero(values: np.ndarray) -> None:
    found = histogram(values)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    assert (found.low, found.high) == (float(values.min()), float(values.max()))
    assert found.counts.sum() == values.size
    for name, method in METHODS.items():
        covered = method(found)
        assert low <= covered.low <= 0 <= covered.high <= high, name
        assert type(covered.low) is type(covered.high) is float, name
        # A range of nothing would make every scale zero, unless nothing but zero was seen.
        assert covered.high > covered.low or not values.any(), name


@pytest.mark.parametrize("scale", [3e38, 1e-42])
def test_values_whose_range_or_its_inverse_is_no_float32_are_counted_in_their_bins(scale: float) -> None:
    values = (np.linspace(-1, 1, 9) * scale).astype(np.float32)
    found = histogram(values)
    edges = np.linspace(float(values[0]), float(values[-1]), BINS + 1)
    assert np.array_equal(found.counts, np.histogram(values.astype(np.float64), edges)[0])


@given(strategies.activations())
def test_minmax_is_the_extremes_and_zero(values: np.ndarray) -> None:
    covered = calibrators.minmax(histogram(values))
    assert (covered.low, covered.high) == (min(float(values.min()), 0.0), max(float(values.max()), 0.0))


@given(strategies.activations(), st.floats(50, 100, exclude_min=True))
def test_percentile_covers_its_share(values: np.ndarray, share: float) -> None:
    found = histogram(values)
    covered = calibrators.percentile(found, share)
    bin_width = (found.high - found.low) / BINS
    inside = (values >= covered.low - bin_width) & (values <= covered.high + bin_width)
    assert inside.sum() >= values.size * share / 100 - 1


@given(strategies.activations())
def test_mse_is_no_worse_than_covering_everything(values: np.ndarray) -> None:
    found = histogram(values)

    def error(covered: Range) -> float:
        step = (covered.high - covered.low) / 255
        if not step:
            return 0.0
        grid = np.clip(np.round((found.centers - covered.low) / step), 0, 255) * step + covered.low
        return float(found.counts @ (found.centers - grid) ** 2)

    assert error(calibrators.mse(found)) <= error(calibrators.minmax(found)) * (1 + 1e-9)


def test_outliers_are_clipped_where_a_method_is_for_that() -> None:
    values = np.random.RandomState(0).standard_normal(100_000).astype(np.float32)
    values[0] = 1000
    found = histogram(values)
    assert calibrators.minmax(found).high == 1000
    assert calibrators.percentile(found).high < 10
    assert divergence.entropy(found).high < 200


def test_entropy_covers_all_of_a_few_values() -> None:
    values = np.array([-1, 0.01, 0.02, 0.5, 0.8], np.float32)
    assert divergence.entropy(histogram(values)) == calibrators.minmax(histogram(values))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 17), st.integers(1, 17))
def test_the_batch_size_changes_nothing(seed: int, one: int, other: int) -> None:
    array = np.random.RandomState(seed).standard_normal((17, 50)).astype(np.float32)
    first, second = collected(array, one), collected(array, other)
    assert first.keys() == second.keys() == {"x", "y"}
    for name, found in first.items():
        assert (found.low, found.high) == (second[name].low, second[name].high)
        np.testing.assert_array_equal(found.counts, second[name].counts)


def test_a_model_that_runs_at_one_only_is_run_at_one() -> None:
    model = builders.BUILDERS["runs_at_one_only"]()
    names = ["x", *(v.name or "" for n in model.graph for v in n.outputs)]
    batched = histograms_of(model, names, builders.samples_of(model, batch_size=4))
    singly = histograms_of(model, names, builders.samples_of(model, batch_size=1))
    assert batched.keys() == singly.keys() >= {"x", "y"}
    assert all((batched[k].counts == singly[k].counts).all() for k in singly)


def test_tensors_that_are_no_floats_are_left_out() -> None:
    model = builders.BUILDERS["two_outputs"]()
    found = histograms_of(model, ["x", "scores", "class", "no such tensor"], builders.samples_of(model))
    assert set(found) == {"x", "scores"}
    assert histograms_of(model, ["class"], builders.samples_of(model)) == {}


def test_the_graph_stays_as_it_is() -> None:
    model = relu()
    before = len(model.graph.outputs)
    histograms_of(model, ["x", "y"], Samples.of(Given(np.ones((2, 3), np.float32))))
    assert len(model.graph.outputs) == before


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_counted_and_left_out(bad: float) -> None:
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    array[2, 1] = bad
    found = collected(array, 2)["x"]
    assert (found.low, found.high, found.counts.sum()) == (0, 11, 11)
    assert found.spread is not None
    assert (found.spread.missing, found.spread.infinite) == ((1, 0) if np.isnan(bad) else (0, 1))


def test_a_tensor_without_any_number_has_no_range() -> None:
    assert collected(np.full((4, 3), np.nan, np.float32)) == {}
    assert collected(np.empty((4, 0), np.float32)) == {}


def test_a_run_that_fails_is_reported() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    with pytest.raises(NativeError, match="ONX401"):
        histograms_of(model, ["y"], Samples.of(Given(np.ones((2, 5), np.float32))))


def test_a_model_that_cannot_be_loaded_is_reported() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    model.graph.node(0).op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="ONX304"):
        histograms_of(model, ["y"], builders.samples_of(model))


def test_a_run_that_fails_at_a_fixed_batch_size_ends_in_an_error() -> None:
    net = Net(0)
    far = net.node("Cast", "x", to=TensorProto.INT64)
    net.node("Gather", net.const(np.ones(3, np.float32)), far, out="y")
    shape = [2, 4]
    model = net.model([("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)], opset=13)
    samples = Samples.of(Given(np.full((4, 4), 9, np.float32)), 2, fixed_batch=True)
    with pytest.raises(NativeError, match="ONX401"):
        ranges.extremes(model, ["y"], samples)


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_a_calibration_opens_one_session(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a graph of thousands of nodes takes longer than its runs; extremes and histograms are read from one."""
    opened, native = list[object](), ranges.onnxruntime.InferenceSession
    monkeypatch.setattr(
        ranges.onnxruntime, "InferenceSession", lambda *a, **k: opened.append(native(*a, **k)) or opened[-1]
    )
    samples, cache = Samples.of(Given(np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)), 1), Observations()
    for _ in range(2):
        calibrate(relu(), ["x", "y"], samples, method=method, percentile=99.99, cache=cache)
    assert len(opened) == 1


@pytest.mark.parametrize(("most", "largest"), [(1 << 26, 8), (3 * 40, 3), (1, 1)])
def test_a_run_gives_out_no_more_activations_than_memory_is_meant_to_hold(
    most: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "MOST_BYTES", most)
    sizes, real = list[int](), ranges.copied_one_by_one

    def watched(session: Any, names: Any, feeds: Any, options: Any) -> Any:
        sizes.append(len(feeds["x"]))
        return real(session, names, feeds, options)

    monkeypatch.setattr(ranges, "copied_one_by_one", watched)
    array = np.arange(160, dtype=np.float32).reshape(16, 10)  # one activation of 40 bytes per sample
    found = collected(array, batch_size=8)
    assert max(sizes) == largest
    assert sum(found["y"].counts) == 160
    assert (found["y"].low, found["y"].high) == (0, 159)


def test_an_activation_is_freed_before_the_next_is_copied() -> None:
    class Fetched:
        def __init__(self, number: int) -> None:
            self.number = number

        def numpy(self) -> np.ndarray:
            assert [one().number for one in alive if one() is not None] == list(range(self.number, 3))  # type: ignore[union-attr]
            return np.zeros(1, np.float32)

    alive = list[Any]()

    class Opened:
        def run_with_ort_values(self, *_: object) -> list[Fetched]:
            made = [Fetched(number) for number in range(3)]
            alive.extend(map(weakref.ref, made))
            return made

    feeds = {"x": np.zeros((1, 2), np.float32)}
    assert len(list(ranges.copied_one_by_one(Opened(), ["a", "b", "c"], feeds, None))) == 3  # type: ignore[arg-type]
    assert all(one() is None for one in alive)


def test_activations_of_words_are_fetched_too() -> None:
    net = Net(0)
    net.node("Cast", "x", out="c", to=TensorProto.FLOAT)
    net.node("Relu", "c", out="y")
    model = net.model([("x", TensorProto.STRING, ["batch", 1])], [("y", TensorProto.FLOAT, ["batch", 1])], opset=13)
    words = np.array([["1"], ["3"], ["1"]], dtype=object)
    found = ranges.extremes(model, ["c", "y"], Samples.of(Given(words), 2))
    assert {name: (one.low, one.high) for name, one in found.items()} == {"c": (1, 3), "y": (1, 3)}


def test_the_session_that_gives_ranges_gives_outputs_too() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    samples = builders.samples_of(model).with_batch_size(1)
    names = [value.name or "" for node in model.graph for value in node.outputs]
    watch = ranges.Watch(model, names)
    assert not watch.is_open
    ranges.extremes(model, names, samples, watch=watch)
    assert watch.is_open
    session = Session(model, Runtime())
    for found, feeds in zip(watch.outputs(samples), samples, strict=True):
        expected = session.named(feeds)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
    watch.close()
    assert not watch.is_open


@pytest.mark.parametrize("small", [True, False])
def test_a_session_with_large_weights_is_not_kept(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_module, "IN_MEMORY_BYTES", 1 << 24 if small else 10)
    model = builders.BUILDERS["gemm_mlp"]()
    names = [value.name or "" for node in model.graph for value in node.outputs]
    samples = builders.samples_of(model).with_batch_size(1)
    found = calibrate(model, names, samples, method="minmax", percentile=99.9, cache=Observations())
    assert (found.watch is not None) == small
