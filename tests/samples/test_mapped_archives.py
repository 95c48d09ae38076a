"""Large arrays of uncompressed archives stay on disk: the same numbers, checked, and no copy in memory."""

import mmap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import DataError
from onnxopt.samples import archive, open_samples
from onnxopt.samples.archive import read_archive
from onnxopt.samples.rows import as_rows
from tests.samples.sample_signatures import IMAGES


def base(array: np.ndarray) -> object:
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


def is_mapped(array: np.ndarray) -> bool:
    return type(base(array)).__name__ == "mmap"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LEAST_MAPPED_BYTES", 200)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((40, 3, 8, 8)).astype(np.float32),
        "columns": np.asfortranarray(rng.standard_normal((12, 7))),
        "big_endian": rng.integers(0, 100, (30, 5)).astype(">i4"),
        "words": np.array(["some", "longer words"] * 8),
        "small": np.arange(3),
    }


def test_mapped_arrays_hold_what_was_saved(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays())
    found = read_archive(tmp_path / "d.npz")
    assert list(found) == list(arrays())
    assert {name for name, array in found.items() if is_mapped(array)} == set(arrays()) - {"small"}
    for name, array in arrays().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_compressed_arrays_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", **arrays())
    found = read_archive(tmp_path / "d.npz")
    assert not any(map(is_mapped, found.values()))
    np.testing.assert_array_equal(found["x"], arrays()["x"])


def test_a_changed_byte_of_a_mapped_array_is_found(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=arrays()["x"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="ONX201"):
        read_archive(path)


@pytest.mark.parametrize("key", ["x", "data", "input", "images"])  # its length moves what is behind it
def test_rows_that_reach_the_runtime_begin_at_whole_numbers(tmp_path: Path, key: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", **{key: x})
    samples = open_samples(tmp_path / "d.npz", IMAGES)
    for index in range(len(x)):
        row = samples.source.read(index)["x"]
        assert row.flags.aligned
        np.testing.assert_array_equal(row, x[index])


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    x = np.zeros((64, 3, 128, 128), np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    whole = x.nbytes
    del x
    tracemalloc.start()
    found = read_archive(tmp_path / "d.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["x"].nbytes == whole
    assert peak < whole / 2


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system takes no advice about pages")
@pytest.mark.parametrize(("side", "calls"), [(300, 24), (16, 1)])  # rows above the stride, and rows far below it
def test_pages_of_rows_leave_memory_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, calls: int
) -> None:
    x = np.random.default_rng(0).standard_normal((24, 3, side, side)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    taken = list[object]()

    class Watched(mmap.mmap):
        def madvise(self, option: int, *rest: int) -> None:
            taken.append(option)
            super().madvise(option, *rest)

    monkeypatch.setattr(mmap, "mmap", Watched)
    rows = as_rows("d", read_archive(tmp_path / "d.npz"), None, IMAGES)
    held = [rows.read(index)["x"] for index in range(len(x))]
    assert taken == [mmap.MADV_DONTNEED] * calls
    for row, expected in zip(held, x, strict=True):  # a row that somebody holds is read again
        np.testing.assert_array_equal(row, expected)
