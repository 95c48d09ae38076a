"""Arrays in .npz and .npy files."""

import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from onnxopt.errors import DataError, FileError, first_line
from onnxopt.files import NotRegularError, open_regular


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an .npz file.

    Raises:
        DataError: ONX201 it is damaged or no .npz file, ONX204 it holds Python objects.
        FileError: ONX505 it cannot be read.
    """
    try:
        with open_regular(path) as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise DataError(
                    "ONX201", "the file holds one bare array", where=str(path), hint="Name it .npy, or use numpy.savez."
                )
            _refuse_bomb(path, content.zip)
            return {key: _array(path, key, content[key]) for key in content.files}
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise many types on damaged files
        raise _unreadable(path, error) from error


def read_array(path: Path) -> np.ndarray:
    """Return the array of an .npy file, memory-mapped.

    Raises:
        DataError: ONX201 it is damaged or no .npy file, ONX204 it holds Python objects.
        FileError: ONX505 it cannot be read.
    """
    try:
        open_regular(path).close()
        content = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # numpy raises many types on damaged headers
        raise _unreadable(path, error) from error
    if not isinstance(content, np.ndarray):
        content.close()
        raise DataError("ONX201", "the file is an archive", where=str(path), hint="Name it .npz.")
    return content


def _refuse_bomb(path: Path, members: ZipFile) -> None:
    """Refuse an archive that would not fit into memory; no member gives more than its entry says."""
    whole = sum(info.file_size for info in members.infolist())
    if whole > most_bytes():
        raise DataError(
            "ONX201",
            "the archive is too large to unpack",
            where=str(path),
            why=f"it holds {whole} bytes, and {most_bytes()} are the limit on this machine",
            hint="Give a folder of smaller .npz files, which are read one at a time.",
        )


def most_bytes() -> int:
    """Return what an archive may hold: half of the machine's memory, 4 GB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # Windows
        return 4 << 30


def _array(path: Path, key: str, value: object) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    raise DataError(
        "ONX201",
        f"the member {key!r} is no array",
        where=str(path),
        hint="Save arrays alone: numpy.savez(path, x=x, y=y).",
    )


def _unreadable(path: Path, error: Exception) -> DataError | FileError:
    if isinstance(error, NotRegularError) or (isinstance(error, OSError) and error.errno):
        return FileError("ONX505", "the data cannot be read", where=str(path), why=error.strerror or first_line(error))
    if "object arrays" in str(error).lower() or "Python objects" in str(error):
        return DataError(
            "ONX204",
            "the file holds Python objects, which are never loaded: they can run code",
            where=str(path),
            hint="Save arrays of numbers: numpy.savez(path, x=numpy.asarray(x, dtype='float32')).",
        )
    return DataError(
        "ONX201",
        "not a readable NumPy file",
        where=str(path),
        why=first_line(error),
        hint="Save it again with numpy.savez or numpy.save.",
    )
