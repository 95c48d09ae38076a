"""Data may come from anybody: nothing in it runs a program, blocks, unpacks without end or leads out of its folder."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from onnxopt.errors import DataError, FileError, OnnxoptError
from onnxopt.files import NotRegularError, open_regular, read_bytes, read_json, read_toml
from onnxopt.measure.latency import remembered
from onnxopt.measure.latency.remembered import Remembered
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.samples import archive as archives
from onnxopt.samples import open_samples
from onnxopt.samples import tokenizer as tokenizers

IMAGES = Signature((TensorSpec("x", "float32", ("n", 3, 8, 8)),), (TensorSpec("y", "float32", ("n", 2)),))
ROWS = Signature((TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 2)),))
TOKENS = Signature((TensorSpec("ids", "int64", ("n", "t")),), (TensorSpec("y", "float32", ("n", 2)),))

Image = pytest.importorskip("PIL.Image")


def _read(data, signature=IMAGES, **options):
    return list(open_samples(data, signature, **options))


def _image(path):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(path)
    return path


@pytest.fixture
def outside(tmp_path):
    return _image(tmp_path / "outside.png")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_never_blocks(folder):
    os.mkfifo(folder / "a.png")
    with pytest.raises(DataError, match=r"a\.png\]: it is a pipe, not a file\. Replace"):
        _read(folder)
    for read in (open_regular, read_bytes, read_json, read_toml):
        with pytest.raises(NotRegularError):
            read(folder / "a.png")
    os.mkfifo(folder / "a.npz")
    with pytest.raises(OnnxoptError, match="it is a pipe"):
        _read(folder, ROWS)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no devices here")  # noqa: PTH110
def test_a_device_is_not_read(tmp_path):
    (tmp_path / "a.json").symlink_to("/dev/zero")
    with pytest.raises(NotRegularError, match="a device"):
        read_json(tmp_path / "a.json")


def test_a_file_is_read_up_to_a_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(NotRegularError, match="larger"):
        read_bytes(tmp_path / "a", most=4)


def test_nesting_without_end_is_no_bug(tmp_path):
    (tmp_path / "a").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"nested|Expecting"):
        read_json(tmp_path / "a")
    (tmp_path / "a").write_text("x = " + "[" * 200_000)
    with pytest.raises(ValueError):
        read_toml(tmp_path / "a")


def test_postscript_is_never_opened(folder, monkeypatch):
    from PIL import EpsImagePlugin

    opened = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: opened.append(a))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    (folder / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="ONX201: not a readable image"):
        _read(folder)
    assert not opened


def test_an_image_that_unpacks_without_end_is_refused_without_a_warning(folder, monkeypatch, recwarn):
    _image(folder / "a.png")
    monkeypatch.setattr("onnxopt.samples.pixels.MOST_PIXELS", 63)
    with pytest.raises(DataError, match="8 x 8 pixels"):
        _read(folder)
    monkeypatch.setattr("onnxopt.samples.pixels.MOST_PIXELS", 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert len(_read(folder)) == 1
    assert not recwarn.list


@pytest.mark.parametrize("name", ["../outside.png", "{outside}", "sub/../../outside.png"])
def test_labels_name_files_of_their_folder_only(folder, outside, name):
    (folder / "labels.csv").write_text(f"file,label\n{name.format(outside=outside)},0\n")
    with pytest.raises(DataError, match="ONX201: a file lies outside the folder"):
        _read(folder)


def test_a_list_of_labels_behind_a_link_out_of_the_folder_is_not_read(folder, tmp_path):
    _image(folder / "a.png")
    listed = "file,label\na.png,0\n"
    (tmp_path / "listed.csv").write_text(listed)
    (folder / "labels.csv").symlink_to(tmp_path / "listed.csv")
    with pytest.raises(DataError, match=r"ONX201: a file lies outside the folder \[.*labels\.csv"):
        _read(folder)
    (folder / "labels.csv").unlink()
    (folder / "listed.csv").write_text(listed)
    (folder / "labels.csv").symlink_to(folder / "listed.csv")
    assert len(_read(folder)) == 1


def test_a_folder_of_a_class_behind_a_link_is_not_read(folder, tmp_path):
    (tmp_path / "others").mkdir()
    _image(tmp_path / "others" / "b.png")
    (folder / "zero").mkdir()
    _image(folder / "zero" / "a.png")
    (folder / "one").symlink_to(tmp_path / "others")
    with pytest.raises(DataError, match="ONX201: a file lies outside the folder"):
        _read(folder)


def test_links_out_of_the_folder_are_not_followed(folder, outside, tmp_path):
    (folder / "a.png").symlink_to(outside)
    with pytest.raises(DataError, match="ONX201: a file lies outside the folder"):
        _read(folder)
    (folder / "a.png").unlink()
    _image(folder / "b.png")
    (folder / "a.png").symlink_to(folder / "b.png")
    assert len(_read(folder, batch_size=1)) == 2
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2), np.float32))
    (folder / "x.npz").symlink_to(tmp_path / "x.npz")
    with pytest.raises(DataError, match="ONX201: a file lies outside the folder"):
        _read(folder, ROWS)


def test_an_archive_larger_than_memory_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1000, 2), np.float32))
    monkeypatch.setattr(archives, "most_bytes", lambda: 8000)
    with pytest.raises(DataError, match="too large to unpack"):
        _read(tmp_path / "x.npz", ROWS)
    monkeypatch.setattr(archives, "most_bytes", lambda: 9000)
    assert _read(tmp_path / "x.npz", ROWS)


def test_a_lying_header_and_a_foreign_member_are_data_errors(tmp_path):
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 2)}
    np.lib.format.write_array_header_1_0(header, about)
    for name, data in (("x.npy", header.getvalue() + b"\0" * 8), ("readme.txt", b"hello")):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
            file.writestr(name, data)
        with pytest.raises(DataError, match="ONX201"):
            _read(tmp_path / "x.npz", ROWS)


def test_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{}, []], dtype=object))
    with pytest.raises(DataError, match="ONX204"):
        _read(tmp_path / "x.npz", ROWS)


def test_a_regular_expression_without_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "PATIENCE_S", 1.0)
    vocab, table = tmp_path / "vocab.json", tmp_path / "texts.csv"
    table.write_text("text,label\n" + "a" * 60 + "!,0\n")
    options = tokenizers_options(vocab)
    vocab.write_text(json.dumps({"vocab": ["[PAD]"], "regex": r"(a+)+$"}))
    with pytest.raises(DataError, match="takes too long"):
        _read(table, TOKENS, options=options)
    vocab.write_text(json.dumps({"vocab": ["[PAD]"], "regex": r"\S+"}))
    assert len(_read(table, TOKENS, options=options)) == 1


def tokenizers_options(vocab):
    from onnxopt.samples import ReadOptions

    return ReadOptions(vocab=vocab)


def test_the_cache_forgets_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "MOST_ENTRIES", 3)
    kept = Remembered[float](tmp_path / "c.json", remembered.is_duration)
    for number in range(5):
        kept.keep({f"k{9 - number}": float(number)})
    assert list(json.loads((tmp_path / "c.json").read_text())) == ["k7", "k6", "k5"]


def test_tensor_files_outside_the_folder_are_not_read(folder, tmp_path):
    (tmp_path / "x.pb").write_bytes(b"")
    (folder / "input_0.pb").symlink_to(tmp_path / "x.pb")
    with pytest.raises((DataError, FileError), match="lies outside"):
        _read(folder, ROWS)
