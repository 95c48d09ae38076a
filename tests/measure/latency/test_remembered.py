"""What is remembered survives the object, and what cannot be read or written is only measured again."""

import sys

import pytest

from onnxopt.measure.latency.remembered import Remembered, cache_folder, is_duration


def test_another_process_knows_it(tmp_path):
    path = tmp_path / "cache" / "known.json"
    one, other = Remembered[float](path, is_duration), Remembered[float](path, is_duration)
    one.keep({"a": 1.5})
    other.keep({"b": 2})
    again = Remembered[float](path, is_duration)
    assert (again["a"], again["b"]) == (1.5, 2)
    assert "c" not in again


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": "much"}', '{"a": NaN}', '{"a": true}'])
def test_what_does_not_fit_is_unknown(tmp_path, text):
    path = tmp_path / "known.json"
    path.write_text(text)
    known = Remembered[float](path, is_duration)
    assert "a" not in known
    known.keep({"a": 1.0})
    assert Remembered[float](path, is_duration)["a"] == 1.0


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    known = Remembered[float](tmp_path / "file" / "known.json", is_duration)
    known.keep({"a": 1.0})
    assert known["a"] == 1.0
    nowhere = Remembered[float](None, is_duration)
    nowhere.keep({"a": 2.0})
    assert nowhere["a"] == 2.0


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="folders of Linux")
def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "onnxopt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "onnxopt"
