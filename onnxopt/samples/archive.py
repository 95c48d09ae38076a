"""Arrays in .npz and .npy files."""

import mmap
import os
import struct
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from onnxopt.errors import DataError, FileError, first_line
from onnxopt.files import NotRegularError, open_regular

LEAST_MAPPED_BYTES = 1 << 20
"""Smaller arrays are copied."""
_CHUNK_BYTES = 1 << 20
STRIDE_BYTES = 1 << 20
"""About so much is read of a mapped array between two times that its pages leave the process."""
_UNUSED = getattr(mmap, "MADV_DONTNEED", None)
_LOCAL_HEADER, _LENGTHS_AT = 30, 26
"""Size of the fixed part of the header before a member of a ZIP file, and where in it the lengths of the others are."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an .npz file; large uncompressed ones (`numpy.savez`) stay on disk, memory-mapped.

    Raises:
        DataError: ONX201 the file is damaged or not an .npz file, ONX204 it holds Python objects.
        FileError: ONX505 the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise DataError(
                    "ONX201", "the file holds one bare array", where=str(path), hint="Name it .npy, or use numpy.savez."
                )
            _refuse_bomb(path, content.zip)
            mapped = {
                key: array
                for info in content.zip.infolist()
                if (key := info.filename.removesuffix(".npy")) in content.files
                and (array := _mapped(file, content.zip, info)) is not None
            }
            return {key: mapped[key] if key in mapped else _array(path, key, content[key]) for key in content.files}
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise many types on damaged files
        raise _unreadable(path, error) from error


def _mapped(file: IO[bytes], members: ZipFile, info: ZipInfo) -> np.ndarray | None:
    """Return a member of an archive memory-mapped; None where it is small, compressed, or must be read in another way.

    It is read to its end once, which compares its checksum.
    """
    if info.compress_type != ZIP_STORED or info.file_size < LEAST_MAPPED_BYTES or not info.filename.endswith(".npy"):
        return None
    with members.open(info) as member:
        read_header = _HEADERS.get(np.lib.format.read_magic(member))
        if read_header is None:
            return None
        shape, fortran, dtype = read_header(member)
        begin = member.tell()
        while member.read(_CHUNK_BYTES):
            pass
        size = member.tell() - begin
    if dtype.hasobject or size != dtype.itemsize * int(np.prod(shape, dtype=np.float64)):
        return None
    file.seek(info.header_offset + _LENGTHS_AT)
    lengths = struct.unpack("<HH", file.read(4))
    offset = info.header_offset + _LOCAL_HEADER + sum(lengths) + begin
    order: Any = "F" if fortran else "C"
    return np.asarray(np.memmap(file, dtype, "r", offset, shape, order))


def read_array(path: Path) -> np.ndarray:
    """Return the array of an .npy file, memory-mapped.

    Raises:
        DataError: ONX201 the file is damaged or not an .npy file, ONX204 it holds Python objects.
        FileError: ONX505 the file cannot be read.
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


def let_go(array: np.ndarray, index: int, size: int) -> None:
    """Take the pages of a mapped array out of this process from time to time; the system keeps them while it has room.

    Whoever holds a part of the array reads it from there again. Arrays in memory stay as they are.

    Args:
        array: the array.
        index: number of the row that is read next.
        size: bytes of a row.
    """
    if _UNUSED is None or index % max(STRIDE_BYTES // max(size, 1), 1):
        return
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(_UNUSED)


def _refuse_bomb(path: Path, members: ZipFile) -> None:
    """Refuse an archive that would not fit into memory; no member exceeds the size in its entry."""
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
    """Return the largest size of an archive: half of the machine's memory, 4 GB if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # Windows
        return 4 << 30


def _array(path: Path, key: str, value: object) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    raise DataError(
        "ONX201",
        f"the member {key!r} is not an array",
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
