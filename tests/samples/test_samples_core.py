"""What Samples promises whatever the source: order, labels, disjoint parts, fingerprints, the calibration reader."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from sample_signatures import TABULAR, one, signature, with_classes

from onnxopt.errors import DataError
from onnxopt.model_file import TensorSpec
from onnxopt.samples import Samples, open_samples


def numbered(count: int, *, batch: int | None = None) -> Samples:
    """Return samples whose every value and label is their index."""
    x = np.repeat(np.arange(count, dtype=np.float32)[:, None], 4, axis=1)
    return open_samples({"x": x, "y": np.arange(count)}, one(batch, 4) if batch else TABULAR)


def indices(samples: Samples) -> list[int]:
    return [int(v) for feeds in samples for v in feeds["x"][:, 0]]


def test_iterating_again_starts_again() -> None:
    samples = numbered(70)
    assert indices(samples) == indices(samples) == list(range(70))
    assert [len(b.feeds["x"]) for b in samples.batches()] == [32, 32, 6]


@given(count=st.integers(1, 60), size=st.integers(1, 40))
def test_batches_and_labels_agree(count: int, size: int) -> None:
    samples = numbered(count).with_batch_size(size)
    for batch in samples.batches():
        np.testing.assert_array_equal(batch.feeds["x"][:, 0], batch.labels)
    assert samples.labels is not None
    assert samples.labels.tolist() == indices(samples) == list(range(count))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.integers(0, 2**32 - 1))
def test_parts_are_disjoint(sizes: tuple[int, int], seed: int) -> None:
    count, first = sizes
    samples = numbered(count)
    parts = samples.split((first, count - first), seed)
    assert [len(p) for p in parts] == [first, count - first]
    assert sorted(i for p in parts for i in indices(p)) == list(range(count))
    again = samples.split((first, count - first), seed)
    assert [indices(p) for p in parts] == [indices(p) for p in again]


def test_parts_of_a_part_stay_disjoint() -> None:
    first, second = numbered(40).split((20, 20), 1)
    inner = first.split((10, 10), 2)
    assert not set(indices(second)) & {i for p in inner for i in indices(p)}


def test_too_few_for_a_split() -> None:
    with pytest.raises(DataError, match=r"ONX205.*12 needed, 10 there"):
        numbered(10).split((6, 6), 0)


@given(count=st.integers(4, 40), take=st.integers(1, 40))
def test_a_fixed_batch_is_always_full(count: int, take: int) -> None:
    samples = numbered(count, batch=4)
    for chosen in (samples, samples.take(take), samples.with_batch_size(1), *samples.split((4, count // 4 * 4 - 4), 0)):
        assert all(feeds["x"].shape == (4, 4) for feeds in chosen)
        assert len(chosen) == len(indices(chosen))
        assert chosen.labels is not None
        assert chosen.labels.tolist() == indices(chosen)


@pytest.mark.parametrize(("count", "taken"), [(1, 4), (4, 4), (5, 8), (12, 12), (30, 12)])
def test_as_many_samples_are_taken_as_fill_runs_of_fixed_size(count: int, taken: int) -> None:
    assert len(numbered(12, batch=4).take(count)) == taken


def test_too_few_for_a_fixed_batch() -> None:
    with pytest.raises(DataError, match=r"ONX205.*exactly 4 at a time; there are 3.*expected: x: float32\[4, 4\]"):
        numbered(3, batch=4)


def test_samples_of_different_shapes_never_share_a_batch() -> None:
    items = [np.zeros((n, 2), np.float32) for n in (3, 3, 5, 3)]
    samples = open_samples(items, one("batch", "seq", 2))
    assert [f["x"].shape for f in samples] == [(2, 3, 2), (1, 5, 2), (1, 3, 2)]
    with pytest.raises(DataError, match=r"ONX203.*exactly 2 samples"):
        list(open_samples(items[1:], one(2, "seq", 2)).take(2))


def test_fingerprint_is_of_the_data_alone() -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    base = open_samples({"x": x, "y": np.arange(6)}, TABULAR).fingerprint
    assert open_samples((x.astype(np.float64), np.arange(6)), TABULAR, batch_size=2).fingerprint == base
    assert open_samples({"x": x, "y": np.arange(6) + 1}, TABULAR).fingerprint != base
    assert open_samples({"x": x + (np.arange(24).reshape(6, 4) == 23), "y": np.arange(6)}, TABULAR).fingerprint != base
    assert open_samples({"x": x[::-1], "y": np.arange(6)}, TABULAR).fingerprint != base


def test_fingerprint_of_text_does_not_depend_on_addresses() -> None:
    model = one("batch", 1, dtype="str")
    words = [np.array([["".join(w)] for w in ("ab", "cd")]) for _ in range(2)]
    assert open_samples(words[0], model).fingerprint == open_samples(words[1], model).fingerprint
    assert open_samples(words[0][::-1], model).fingerprint != open_samples(words[1], model).fingerprint


def test_reader_is_a_calibration_reader() -> None:
    reader = numbered(40).reader()
    assert isinstance(reader, CalibrationDataReader)
    sizes = []
    while (feeds := reader.get_next()) is not None:
        sizes.append(len(feeds["x"]))
    assert sizes == [32, 8]
    assert reader.get_next() is None
    reader.rewind()
    assert sum(len(feeds["x"]) for feeds in reader) == 40


def test_onnx_runtime_calibrates_with_the_reader(tmp_path) -> None:
    helper = onnx.helper
    node = helper.make_node("MatMul", ["x", "w"], ["out"])
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    x, out = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 4]) for n in ("x", "out"))
    graph = helper.make_graph([node], "g", [x], [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    quantize_static(model, tmp_path / "q.onnx", numbered(10).reader())
    assert (tmp_path / "q.onnx").stat().st_size > 0


def test_samples_and_sources_can_be_opened_again() -> None:
    part, _ = numbered(20).split((8, 12), 3)
    again = open_samples(part.with_batch_size(4), TABULAR)
    assert indices(again) == indices(part)
    assert again.batch_size == 4
    assert len(open_samples(part.source, TABULAR)) == 20


def test_string_labels_stay_when_the_model_says_names() -> None:
    x, y = np.zeros((3, 4), np.float32), np.array(["dog", "ant", "dog"])
    names = signature(TensorSpec("x", "float32", (None, 4)), output=TensorSpec("name", "str", (None,)))
    assert open_samples(x, names, labels=y).labels.tolist() == ["dog", "ant", "dog"]
    assert open_samples(x, with_classes(TABULAR, 2), labels=y).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", ["U", "S", "O"])
@pytest.mark.parametrize("count", [1, 2, "classes"])
def test_string_labels_are_numbered_when_every_class_has_one(kind: str, count: int | str) -> None:
    x, y = np.zeros((3, 4), np.float32), np.array(["dog", "ant", "dog"]).astype(kind)
    assert open_samples(x, with_classes(TABULAR, count), labels=y).labels.tolist() == [1, 0, 1]


def test_string_labels_that_are_not_one_for_each_class_are_no_guess() -> None:
    x, y = np.zeros((3, 4), np.float32), ["dog", "ant", "dog"]
    for data, labels in ((x, y), ({"x": x, "y": np.array(y)}, None)):
        with pytest.raises(DataError, match=r"ONX206.*2 names \('ant', 'dog'\) for 10 classes.*counted from 0"):
            open_samples(data, with_classes(TABULAR, 10), labels=labels)
