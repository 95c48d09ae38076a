"""Types and values: what is converted, what is refused."""

import numpy as np
import pytest
from sample_signatures import DIGITS, SCORES, TABULAR, one

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature
from onnxopt.samples import ReadOptions, open_samples

GRID = np.ones((2, 1, 8, 8))


@pytest.mark.parametrize(
    ("array", "model"),
    [
        (np.ones((2, 4), np.float64), TABULAR),
        (np.ones((2, 4), np.float16), TABULAR),
        (np.ones((2, 4), np.int64), TABULAR),
        (np.ones((2, 4), bool), TABULAR),
        (np.ones((2, 4), np.int32), one(None, 4, dtype="int64")),
        (np.ones((2, 4), np.int64), one(None, 4, dtype="int32")),
        (np.ones((2, 4), np.int64), one(None, 4, dtype="uint8")),
        (np.ones((2, 4), np.int64), one(None, 4, dtype="bool")),
        (np.ones((2, 4), np.float32), one(None, 4, dtype="float16")),
        (np.ones((2, 4), np.float32), one(None, 4, dtype="bfloat16")),
        (np.array([["a"], ["b"]]), one(None, 1, dtype="str")),
        (np.array(["a", "b"]), one(None, dtype="str")),
        (np.array(["a", "b"], object), one(2, dtype="str")),
    ],
)
def test_safe_casts_are_silent(array: np.ndarray, model: Signature) -> None:
    (feeds,) = open_samples(array, model)
    wanted = model.inputs[0].dtype
    assert feeds["x"].dtype.name == ("object" if wanted == "str" else wanted)
    assert (feeds["x"] == array).all()


@pytest.mark.parametrize(
    ("array", "model", "why"),
    [
        (GRID.astype(np.uint8), DIGITS, "uint8, not float32.*Scale pixels"),
        (GRID.astype(np.int64), DIGITS, "int64, not float32.*Scale pixels"),
        (np.ones((2, 4), np.uint8), TABULAR, "uint8, not float32"),
        (np.full((2, 4), 2**24 + 1), TABULAR, "int64, not float32.*Some values do not fit"),
        (np.full((2, 4), 300), one(None, 4, dtype="uint8"), "int64, not uint8.*Some values do not fit"),
        (np.full((2, 4), -1), one(None, 4, dtype="uint8"), "Some values do not fit"),
        (np.full((2, 4), 2), one(None, 4, dtype="bool"), "Some values do not fit"),
        (np.ones((2, 4), np.float32), one(None, 4, dtype="int64"), "float32, not int64"),
        (np.ones((2, 4), complex), TABULAR, "complex128, not float32"),
        (np.array([["a"] * 4] * 2), TABULAR, "<U1, not float32"),
        (np.ones((2, 4), np.float32), one(None, 4, dtype="str"), "float32, not str"),
        (np.ones((2, 4), np.float32), one(None, 4, dtype="object"), "the model takes a sequence or a map"),
    ],
)
def test_other_casts_are_refused(array: np.ndarray, model: Signature, why: str) -> None:
    with pytest.raises(DataError, match=f"ONX204.*{why}") as caught:
        open_samples({"x": array}, model)
    assert str(caught.value).endswith(f"expected: {model}")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_sample_is_named_when_it_is_read(bad: float) -> None:
    x = np.zeros((50, 4))
    x[[40, 45], 2] = bad
    samples = open_samples(x, TABULAR, batch_size=8)
    assert len(next(iter(samples))["x"]) == 8
    with pytest.raises(DataError, match=r"ONX207.*sample 40.*expected: x: float32\[\?, 4\]"):
        list(samples)


def test_a_float_too_large_for_the_model_is_infinite() -> None:
    with pytest.raises(DataError, match=r"ONX207.*infinite.*sample 0"):
        open_samples(np.full((1, 4), 1e300), TABULAR)


@pytest.mark.parametrize(
    ("model", "asked", "size"),
    [(DIGITS, None, 32), (DIGITS, 1, 1), (one(1, 1, 8, 8), None, 1), (one(2, 1, 8, 8), None, 2), (DIGITS, 7, 7)],
)
def test_batch_size(model: Signature, asked: int | None, size: int) -> None:
    samples = open_samples(np.zeros((14, 1, 8, 8)), model, batch_size=asked)
    assert samples.batch_size == size
    assert len(next(iter(samples))["x"]) == min(size, 14)


@pytest.mark.parametrize(("model", "size"), [(one(1, 4), 8), (one(8, 4), 1), (TABULAR, 0), (TABULAR, -1)])
def test_batch_size_that_does_not_work(model: Signature, size: int) -> None:
    with pytest.raises(UsageError, match=f"ONX101: batch size {size} does not work"):
        open_samples(np.zeros((16, 4)), model, batch_size=size)


def test_limit_is_spread_over_the_data_or_the_start_of_a_stream() -> None:
    x = np.repeat(np.arange(100.0)[:, None], 4, 1)
    assert open_samples((x, np.arange(100)), TABULAR, limit=5).labels.tolist() == [0, 20, 40, 60, 80]
    assert open_samples(zip(x, range(100), strict=True), TABULAR, limit=5).labels.tolist() == [0, 1, 2, 3, 4]
    assert len(open_samples(x, TABULAR, limit=1000)) == 100
    with pytest.raises(UsageError, match="ONX101"):
        open_samples(x, TABULAR, limit=0)


def test_label_offset() -> None:
    x = np.zeros((3, 4))
    assert open_samples((x, np.array([0, 1, 2])), TABULAR, options=ReadOptions(label_offset=1)).labels.tolist() == [
        1,
        2,
        3,
    ]
    for labels in (None, np.array([0.5, 1.0, 2.0])):
        with pytest.raises(UsageError, match=r"ONX112.*whole numbers"):
            open_samples(x, TABULAR, labels=labels, options=ReadOptions(label_offset=1))


def test_samples_keep_their_labels() -> None:
    samples = open_samples(np.zeros((3, 4)), TABULAR)
    with pytest.raises(UsageError, match="ONX109"):
        open_samples(samples, TABULAR, labels=[1, 2, 3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"resize": "stretch"},
        {"size": 0},
        {"size": (4, 0)},
        {"divide_by": 0},
        {"std": (1, 0, 1)},
        {"mean": (1, 2)},
        {"layout": "CHWN"},
        {"channel_order": "gbr"},
        {"memory_mb": -1},
        {"shortest_side": 0},
    ],
)
def test_options_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"ONX101: the value of {next(iter(wrong))} is invalid"):
        ReadOptions(**wrong)


@pytest.mark.parametrize("labels", ["no_such.npy", "empty.csv", "two.csv", "short.txt"])
def test_label_files_that_do_not_fit(tmp_path, labels: str) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "short.txt").write_text("1\n2\n")
    code = "ONX201" if labels == "no_such.npy" else "ONX206"
    with pytest.raises(DataError, match=code):
        open_samples(np.zeros((3, 4)), TABULAR, labels=tmp_path / labels)


@pytest.mark.parametrize("labels", [3, [[1, 2], [3]], object()])
def test_labels_that_are_no_labels(labels: object) -> None:
    with pytest.raises(DataError, match="ONX206"):
        open_samples(np.zeros((2, 4)), TABULAR, labels=labels)


@pytest.mark.parametrize("data", [{}, {"x": np.ones((2, 4))}, np.ones((2, 4)), "digits", iter([{}])])
def test_a_model_without_inputs_takes_no_samples(data: object) -> None:
    with pytest.raises(DataError, match=r"^ONX203: the model has no inputs.*without any\.$"):
        open_samples(data, Signature((), (SCORES,)))


def test_a_model_without_inputs_runs_on_made_up_ones() -> None:
    assert next(iter(open_samples("random", Signature((), (SCORES,))))) == {}
