"""Python objects: iterables, loaders, calibration readers, and the spool behind them."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sample_signatures import DIGITS, PAIR, TABULAR, VOICE, one
from torch.utils.data import DataLoader, Dataset, TensorDataset

from onnxopt.errors import DataError, FileError
from onnxopt.model_file import Signature
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.samples.spool import Spool
from onnxopt.samples.stream import open_stream

X = np.random.RandomState(0).rand(7, 4).astype(np.float32)
Y = np.arange(7) % 3


class Indexed(Dataset):
    """A data set that can be indexed but not iterated."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(X[index]), int(Y[index])


class CalibrationReader:
    """Gives batches once."""

    def __init__(self) -> None:
        self.left = [{"x": X[:4]}, {"x": X[4:]}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop(0) if self.left else None


LABELLED = {
    "mapping": lambda: {"x": X, "y": Y},
    "tuple of arrays": lambda: (X, Y),
    "tuple of tensors": lambda: (torch.from_numpy(X), torch.from_numpy(Y)),
    "samples": lambda: list(zip(X, Y, strict=True)),
    "python lists": lambda: [(x.tolist(), int(y)) for x, y in zip(X, Y, strict=True)],
    "generator": lambda: ((x, y) for x, y in zip(X, Y, strict=True)),
    "dicts": lambda: [{"x": x, "label": y} for x, y in zip(X, Y, strict=True)],
    "dict and label": lambda: [({"x": X[:5]}, Y[:5]), ({"x": X[5:]}, Y[5:])],
    "batches": lambda: iter([(X[:3], Y[:3]), (X[3:], Y[3:])]),
    "torch loader": lambda: DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=3),
    "torch data set": Indexed,
    "tensors that need gradients": lambda: [(torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y))],
}


@pytest.mark.parametrize("form", LABELLED)
def test_every_form_gives_the_same_samples(form: str) -> None:
    samples = open_samples(LABELLED[form](), TABULAR)
    for _ in range(2):
        (batch,) = samples.batches()
        np.testing.assert_array_equal(batch.feeds["x"], X)
        np.testing.assert_array_equal(batch.labels, Y)


@pytest.mark.parametrize("data", [X, torch.from_numpy(X), [X], iter(X), [{"data": X}], CalibrationReader()])
def test_without_labels(data: object) -> None:
    samples = open_samples(data, TABULAR)
    (feeds,) = samples
    np.testing.assert_array_equal(feeds["x"], X)
    assert samples.labels is None


def test_tuples_of_several_inputs() -> None:
    items = [(np.zeros((2, 3)), np.ones((2, 2), int), np.array([5, 6]))] * 2
    samples = open_samples(items, PAIR)
    (feeds,) = samples
    assert {k: v.shape for k, v in feeds.items()} == {"a": (4, 3), "b": (4, 2)}
    assert samples.labels.tolist() == [5, 6, 5, 6]


def test_runs_without_batch_axis_stay_whole() -> None:
    item = {"input": np.zeros((1, 512)), "state": np.zeros((2, 1, 8)), "rate": 16000}
    assert [f["rate"].tolist() for f in open_samples([item] * 3, VOICE)] == [16000] * 3


def stream(count: int = 20) -> Iterator[tuple[np.ndarray, int]]:
    buffer = np.empty(4, np.float32)
    for i in range(count):
        buffer[:] = i
        yield buffer, i


@pytest.mark.parametrize(("limit_bytes", "on_disk"), [(320, False), (319, True), (100, True), (0, True)])
def test_a_one_shot_stream_is_kept(limit_bytes: int, on_disk: bool) -> None:
    spool = open_stream("stream", stream(), TABULAR, limit_bytes)
    assert spool.on_disk == on_disk
    samples = open_samples(spool, TABULAR, batch_size=6)
    for _ in range(2):
        assert [b.labels.tolist() for b in samples.batches()] == [
            list(range(i, min(i + 6, 20))) for i in (0, 6, 12, 18)
        ]
        assert [int(v) for f in samples for v in f["x"][:, 0]] == list(range(20))
    first, second = samples.split((10, 10), 0)
    assert sorted(int(f["x"][i, 0]) for p in (first, second) for f in p for i in range(len(f["x"]))) == list(range(20))


def test_disk_and_memory_hold_the_same() -> None:
    prints = {open_samples(stream(), TABULAR, options=ReadOptions(memory_mb=mb)).fingerprint for mb in (0, 256)}
    assert len(prints) == 1


def test_every_type_survives_the_disk() -> None:
    import ml_dtypes

    spool = Spool("s", 0)
    arrays = {
        "a": np.float32(3.5),
        "b": np.array([["é", "bc"]]),
        "c": np.zeros((0, 3), np.int8),
        "d": np.arange(6.0).reshape(2, 3).T,
        "e": np.ones(3, ml_dtypes.bfloat16),
    }
    spool.append({key: np.asarray(a) for key, a in arrays.items()})
    for key, array in spool.read(0).items():
        np.testing.assert_array_equal(array, arrays[key])
        assert array.dtype == np.asarray(arrays[key]).dtype


def test_the_temporary_file_goes_with_the_samples(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = open_stream("stream", stream(), TABULAR, 0)
    file = spool._file
    del spool
    gc.collect()
    assert file.closed
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(FileError, match=r"ONX503.*missing"):
        open_stream("stream", stream(), TABULAR, 0)


def test_an_endless_stream_stops_at_the_limit() -> None:
    samples = open_samples(iter(lambda: (X, Y), None), TABULAR, limit=10)
    assert len(samples) == 10
    np.testing.assert_array_equal(samples.labels, np.concatenate([Y, Y])[:10])


def failing() -> Iterator[np.ndarray]:
    yield X[0]
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ([], TABULAR, "ONX205"),
        (iter(()), TABULAR, "ONX205"),
        (failing(), TABULAR, "ONX201: reading the data failed.*KeyError"),
        (["a", "b"], TABULAR, "ONX20[34]"),
        ([object()], TABULAR, "ONX204.*found object"),
        ([None], TABULAR, "ONX204"),
        ([[[1, 2], [3]]], TABULAR, "ONX204"),
        ([(X[0], 1, 2)], TABULAR, "ONX202.*3 arrays"),
        ([{"a": X, "b": X}], TABULAR, "ONX202"),
        ([(X[0], 1), X[1]], TABULAR, "ONX206.*some have none"),
        ([(X, Y[:3])], TABULAR, "ONX206.*3 labels for 7 samples"),
        ([X[None, :2], X[0]], TABULAR, "ONX203.*differ in kind"),
        ([X[0], np.full(4, np.nan)], TABULAR, "ONX207.*sample 1"),
        ([X[0], X[0, :2]], TABULAR, r"ONX203.*sample 1.*shape \(2,\)"),
        ([np.zeros((8, 8, 1))], DIGITS, "ONX203.*Transpose"),
        ([torch.zeros(4, dtype=torch.bfloat16)], TABULAR, "ONX204"),
        ([np.zeros((2, 2, 2, 2, 2, 2))], one(None, 4), "ONX203"),
    ],
)
def test_what_does_not_fit(data: object, model: Signature, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(open_samples(data, model))
    assert f"expected: {model}" in str(caught.value)
