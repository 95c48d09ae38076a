"""The batches that a search times, and the times at given lengths of sequences."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.samples import Feeds, Samples
from onnxopt.search import stages
from onnxopt.search.mix.bits import Clock
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.search.timed_batches import called_at, timed_batches
from tests import builders

MODEL = builders.BUILDERS["transformer_17"]()


def data(count: int = 40) -> Samples:
    return builders.samples_of(MODEL, count=count)


def steps(feeds: Feeds) -> int:
    return int(np.shape(feeds["x"])[1])


def test_each_length_is_timed_as_often_as_its_share() -> None:
    found = timed_batches(data(), MODEL, Settings(sequence="20:0.3,1:0.7", batch_size=2))
    assert Counter(map(steps, found.alternating)) == {20: 9, 1: 21}
    assert {np.shape(feeds["x"])[0] for feeds in found.alternating} == {2}
    # The first few cover both lengths.
    assert len({steps(feeds) for feeds in found.alternating[:4]}) == 2
    assert [(steps(feeds), share) for feeds, share in found.by_length] == [(20, pytest.approx(0.3)), (1, 0.7)]
    assert steps(found.typical) == 20


def test_the_typical_batch_has_the_length_with_the_most_steps() -> None:
    found = timed_batches(data(), MODEL, Settings(sequence="20:0.02,1:0.98"))
    assert steps(found.typical) == 1


def test_hot_batches_differ_in_length_alone() -> None:
    found = timed_batches(data(), MODEL, Settings(sequence="4,2", hot=True))
    assert len({feeds["x"].tobytes() for feeds in found.alternating}) == 2


def test_without_lengths_the_data_has_its_own() -> None:
    found = timed_batches(data(), MODEL, Settings())
    assert {steps(feeds) for feeds in found.alternating} == {builders.SIZES["time"]}
    assert found.by_length == ((found.typical, 1.0),)


def test_times_at_lengths_add_up_to_the_time_as_called() -> None:
    by_length = timed_batches(data(), MODEL, Settings(sequence="200:0.25,1:0.75")).by_length
    whole = {"a": 8.0, "b": 2.0}
    long, short = called_at(by_length, whole, {"a": MODEL, "b": MODEL}, Runtime(), 0.1)
    for name, ms in whole.items():
        assert 0.25 * long[name] + 0.75 * short[name] == pytest.approx(ms)
        assert long[name] > 2 * short[name]


def test_a_search_times_candidates_and_matrices_at_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[list[tuple[int, float]], int]]()

    def tables(
        model: ir.Model, context: object, inputs: Sequence[tuple[Feeds, float]], *, clock: Clock, **_: object
    ) -> None:
        lengths: Sequence[Mapping[str, float]] = clock({"float": model})
        seen.append(([(steps(feeds), share) for feeds, share in inputs], len(lengths)))
        raise ModelError("ONX304", "seen")

    monkeypatch.setattr(stages, "has_matrices", lambda _: True)
    monkeypatch.setattr(stages, "bit_tables", tables)
    settings = Settings(latency_s=0.05, sequence="12:0.5,3:0.5")
    found = search(MODEL, split_parts(data(60), None, 0), settings=settings)
    assert seen == [([(12, 0.5), (3, 0.5)], 2)]
    latency = found.baseline.latency
    assert latency is not None
    assert latency.inputs == 32


def test_a_benchmark_times_the_lengths_and_says_so() -> None:
    found = onnxopt.benchmark([MODEL], sequence="30:0.1,2:0.9", seconds=0.1)
    (latency,) = found.latency[1].values()
    assert latency.inputs == 30
    assert "Sequences have the lengths 30 (10% of the runs) and 2 (90% of the runs)." in found.document.data["notes"]


@pytest.mark.parametrize("other", [{"profile": True}, {"processes": 2}, {"scenario": "offline"}, {"device": "ssh://b"}])
def test_lengths_are_for_latency_on_this_machine(other: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"ONX109.*sequence"):
        onnxopt.benchmark([MODEL], sequence="8", **other)  # type: ignore[arg-type]


def test_a_model_without_sequences_has_no_lengths() -> None:
    with pytest.raises(UsageError, match="ONX112"):
        onnxopt.benchmark([builders.BUILDERS["residual_cnn"]()], sequence="8", seconds=0.1)
