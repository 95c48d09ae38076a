"""Arrays: .npz, .npy, folders of them, ONNX test data."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from sample_signatures import DIGITS, PAIR, TABULAR, VOICE, one, signature

from onnxopt.errors import DataError, FileError, OnnxoptError
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.model_file.tensor_file import read_tensor_file
from onnxopt.samples import open_samples

X = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 1, 8, 8)
Y = np.array([3, 1, 4, 1, 5])


@pytest.mark.parametrize("key", ["x", "images", "arr_0"])
@pytest.mark.parametrize("label", ["y", "labels", "label", "target"])
def test_npz(tmp_path: Path, key: str, label: str) -> None:
    np.savez(tmp_path / "d.npz", **{key: X, label: Y, "files": np.array(["note"] * 5)})
    samples = open_samples(tmp_path / "d.npz", DIGITS)
    (batch,) = samples.batches()
    np.testing.assert_array_equal(batch.feeds["x"], X)
    np.testing.assert_array_equal(batch.labels, Y)


def test_npz_of_two_inputs_in_graph_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", b=np.ones((4, 2), np.int32), a=np.zeros((4, 3)))
    (feeds,) = open_samples(str(tmp_path / "d.npz"), PAIR)
    assert {k: (v.dtype.name, v.shape) for k, v in feeds.items()} == {"a": ("float32", (4, 3)), "b": ("int64", (4, 2))}
    assert list(feeds) == ["a", "b"]


def test_npy_and_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X)
    np.save(tmp_path / "y.npy", Y)
    (tmp_path / "y.txt").write_text("\n".join(map(str, Y)))
    (tmp_path / "y.csv").write_text("file,label\n" + "".join(f"{i},{y}\n" for i, y in enumerate(Y)))
    for labels in (Y, list(Y), *(tmp_path / f"y.{kind}" for kind in ("npy", "txt", "csv"))):
        np.testing.assert_array_equal(open_samples(tmp_path / "d.npy", DIGITS, labels=labels).labels, Y)
    assert open_samples(tmp_path / "d.npy", DIGITS).labels is None


def test_given_labels_go_before_those_of_the_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    np.testing.assert_array_equal(open_samples(tmp_path / "d.npz", DIGITS, labels=Y + 1).labels, Y + 1)


@pytest.mark.parametrize("whole", [True, False])
def test_folder_of_npz(tmp_path: Path, whole: bool) -> None:
    if whole:
        np.savez(tmp_path / "1.npz", x=X[:3], y=Y[:3])
        np.savez(tmp_path / "2.npz", x=X[3:], y=Y[3:])
    else:
        for i, (x, y) in enumerate(zip(X, Y, strict=True)):
            np.savez(tmp_path / f"{i}.npz", x=x, y=y)
    samples = open_samples(tmp_path, DIGITS)
    (batch,) = samples.batches()
    np.testing.assert_array_equal(batch.feeds["x"], X)
    np.testing.assert_array_equal(batch.labels, Y)


def test_folder_of_npy(tmp_path: Path) -> None:
    for i, x in enumerate(X):
        np.save(tmp_path / f"{i}.npy", x)
    (feeds,) = open_samples(tmp_path, DIGITS)
    np.testing.assert_array_equal(feeds["x"], X)


def test_arrays_with_one_axis_more_are_runs() -> None:
    runs = {"input": np.zeros((6, 1, 512)), "state": np.zeros((6, 2, 1, 8)), "rate": np.full(6, 16000)}
    shapes = [{k: v.shape for k, v in f.items()} for f in open_samples(runs, VOICE)]
    assert shapes == [{"input": (1, 512), "state": (2, 1, 8), "rate": ()}] * 6
    assert len(open_samples({k: v[0] for k, v in runs.items()}, VOICE)) == 1


def test_a_sequence_axis_is_no_batch_axis() -> None:
    assert len(open_samples(np.zeros((7, 1, 3)), one("seq_len", "batch", 3))) == 1
    assert len(open_samples(np.zeros((7, 1, 3)), one("batch", "seq_len", 3))) == 7


def test_unnamed_sizes_of_tf2onnx_are_one_batch_axis() -> None:
    model = signature(TensorSpec("a", "float32", ("unk__1", 3)), TensorSpec("b", "float32", ("unk__2", 2)))
    assert len(open_samples({"a": np.zeros((7, 3)), "b": np.zeros((7, 2))}, model)) == 7


def save_tensor(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(onnx.numpy_helper.from_array(array).SerializeToString())


def test_onnx_test_data(tmp_path: Path) -> None:
    for run in (2, 10):
        save_tensor(tmp_path / f"test_data_set_{run}" / "input_0.pb", np.full((run, 3), run, np.float32))
        save_tensor(tmp_path / f"test_data_set_{run}" / "input_1.pb", np.zeros((run, 2), np.int64))
    samples = open_samples(tmp_path, PAIR)
    assert [f["a"].shape for f in samples] == [(2, 3), (10, 3)]
    assert samples.labels is None
    assert len(open_samples(tmp_path / "test_data_set_2", PAIR)) == 1
    (tmp_path / "test_data_set_10" / "input_1.pb").unlink()
    with pytest.raises(DataError, match=r"ONX202.*1 files for 2 inputs"):
        open_samples(tmp_path, PAIR)


def test_tensor_files_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "input_0.pb"
    with pytest.raises(FileError, match="ONX501"):
        read_tensor_file(path)
    save_tensor(path, X)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 40):
        path.write_bytes(content)
        with pytest.raises(DataError, match="ONX201"):
            open_samples(tmp_path, DIGITS)


def object_npz(path: Path) -> None:
    np.savez(path, x=np.array([{}, None], dtype=object), allow_pickle=True)


def truncated_npz(path: Path) -> None:
    np.savez(path, x=X)
    path.write_bytes(path.read_bytes()[:-200])


def corrupt_npz(path: Path) -> None:
    np.savez_compressed(path, x=np.random.RandomState(0).rand(5, 1, 8, 8))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(bytes(content))


def forged_header(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})


def npy_called_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)


BROKEN = {
    "objects.npz": (object_npz, "ONX204.*never loaded"),
    "short.npz": (truncated_npz, "ONX201"),
    "corrupt.npz": (corrupt_npz, "ONX201"),
    "empty.npz": (lambda p: p.write_bytes(b""), "ONX201"),
    "pickle.npz": (lambda p: p.write_bytes(pickle.dumps(X)), "ONX201"),
    "bare.npz": (npy_called_npz, "ONX201.*one bare array"),
    "archive.npy": (lambda p: np.savez(p.open("wb"), x=X), "ONX201.*archive"),
    "forged.npy": (forged_header, "ONX201"),
    "text.npy": (lambda p: p.write_text("hello"), "ONX201"),
    "nothing.npz": (np.savez, "ONX202.*'x' is missing"),
    "model.onnx": (lambda p: p.write_text("hello"), "ONX201.*no known format.*Accepted: a .npz"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path: Path, name: str) -> None:
    make, message = BROKEN[name]
    make(tmp_path / name)
    with pytest.raises(OnnxoptError, match=message) as caught:
        open_samples(tmp_path / name, DIGITS)
    assert caught.type in (DataError, FileError)


def test_a_broken_file_in_a_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=X)
    truncated_npz(tmp_path / "1.npz")
    with pytest.raises(DataError, match=r"ONX201.*1\.npz"):
        open_samples(tmp_path, DIGITS)


@pytest.mark.parametrize("data", ["no_such_file.npz", "digit", "", 7, None])
def test_unknown_data_lists_what_is_accepted(data: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_samples(data, DIGITS)
    assert caught.value.code == "ONX201"
    assert "random:N" in caught.value.hint


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ONX205.*expected: x: float32\[batch, 1, 8, 8\]"):
        open_samples(tmp_path, DIGITS)


def test_zero_rows() -> None:
    with pytest.raises(DataError, match=r"ONX205.*expected: x"):
        open_samples(np.zeros((0, 1, 8, 8), np.float32), DIGITS)


@pytest.mark.parametrize(
    ("arrays", "model", "message"),
    [
        ({"a": np.zeros((4, 3))}, PAIR, "ONX202: model input 'b' is missing.*found a"),
        ({"a": np.zeros((4, 3)), "bb": np.zeros((4, 2), int)}, PAIR, "ONX202: model input 'b'.*mean 'bb'"),
        ({"a": np.zeros((4, 3)), "b": np.zeros((4, 2), int), "c": Y}, PAIR, "ONX202: the model has no input 'c'"),
        ({"u": X, "v": X}, DIGITS, "ONX202: model input 'x' is missing.*found u, v"),
        ({"a": np.zeros((4, 3)), "b": np.zeros((5, 2), int)}, PAIR, "ONX203"),
        ({"x": X.reshape(5, 8, 8, 1)}, DIGITS, r"ONX203.*NHWC to NCHW: x.transpose\(0, 3, 1, 2\)"),
        ({"x": X}, one(None, 8, 8, 1), r"ONX203.*NCHW to NHWC: x.transpose\(0, 2, 3, 1\)"),
        ({"x": X.reshape(5, 8, 8)}, DIGITS, r"ONX203.*x.reshape\(-1, 1, 8, 8\)"),
        ({"x": X.reshape(5, 64)}, DIGITS, r"ONX203.*shape \(5, 64\).*x.reshape\(-1, 1, 8, 8\)"),
        ({"x": np.zeros((5, 3), np.float32)}, TABULAR, r"ONX203.*a sample has shape \(3,\)"),
        ({"x": X, "y": Y[:4]}, DIGITS, "ONX206.*4 labels for 5 samples"),
    ],
)
def test_what_does_not_fit(arrays: dict[str, np.ndarray], model: Signature, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_samples(arrays, model)
    assert str(caught.value).endswith(f"expected: {model}")


def test_a_name_that_is_no_inputs_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", imagge=np.zeros((4, 1, 8, 8), np.float32))
    signature = Signature((TensorSpec("image", "float32", ("batch", 1, 8, 8)),), ())
    with pytest.raises(DataError, match=r"ONX202.*'image' is missing.*imagge"):
        open_samples(tmp_path / "d.npz", signature)
