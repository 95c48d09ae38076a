"""Arrays in .npz and .npy files."""

from pathlib import Path

import numpy as np

from onnxopt.errors import DataError, FileError, first_line


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an .npz file.

    Raises:
        DataError: ONX201 it is damaged or no .npz file, ONX204 it holds Python objects.
        FileError: ONX505 it cannot be read.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise DataError(
                "ONX201", "the file holds one bare array", where=str(path), hint="Name it .npy, or use numpy.savez."
            )
        with content:
            return {key: content[key] for key in content.files}
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
        content = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # numpy raises many types on damaged headers
        raise _unreadable(path, error) from error
    if not isinstance(content, np.ndarray):
        content.close()
        raise DataError("ONX201", "the file is an archive", where=str(path), hint="Name it .npz.")
    return content


def _unreadable(path: Path, error: Exception) -> DataError | FileError:
    if isinstance(error, OSError) and error.errno is not None:
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
