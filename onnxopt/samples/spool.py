"""A stream, read once and stored for random access: in memory while small, then in a temporary file."""

import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import IO

import numpy as np

from onnxopt.errors import FileError, first_line


@dataclass(frozen=True)
class _Stored:
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    size_bytes: int


class Spool:
    """Samples, appended once and read in any order; the file is deleted with this object."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.name = name
        self.labels: np.ndarray | None = None
        self.stacks = True
        self._limit = limit_bytes
        self._size = 0
        self._memory: list[Mapping[str, np.ndarray]] = []
        self._index: list[dict[str, _Stored]] = []
        self._file: IO[bytes] | None = None
        self._lock = Lock()

    @property
    def on_disk(self) -> bool:
        """Return whether the samples are in a temporary file."""
        return self._file is not None

    def __len__(self) -> int:
        return len(self._index) if self.on_disk else len(self._memory)

    def append(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Add a copy of one sample.

        Raises:
            FileError: ONX503 the temporary file cannot be written.
        """
        # A copy, because streams often reuse one buffer.
        copy = {key: np.array(array, order="C") for key, array in feeds.items()}
        self._size += sum(array.nbytes for array in copy.values())
        if self._size <= self._limit:
            self._memory.append(copy)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="onnxopt.")  # noqa: SIM115 (closed by the finalizer)
                weakref.finalize(self, self._file.close)
                for sample in self._memory:
                    self._write(sample, self._file)
                self._memory = []
            self._write(copy, self._file)
        except OSError as error:
            raise FileError(
                "ONX503",
                "cannot keep the samples of a stream",
                where=tempfile.gettempdir(),
                why=error.strerror or first_line(error),
                hint="Free some space there, set TMPDIR to another folder, or give fewer samples.",
            ) from error

    def _write(self, feeds: Mapping[str, np.ndarray], file: IO[bytes]) -> None:
        entry = {}
        for key, array in feeds.items():
            entry[key] = _Stored(file.tell(), array.dtype, array.shape, array.nbytes)
            file.write(array.tobytes())
        self._index.append(entry)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return sample `index`."""
        if self._file is None:
            return dict(self._memory[index])
        feeds = {}
        with self._lock:  # seek and read must not be interleaved
            for key, stored in self._index[index].items():
                self._file.seek(stored.offset)
                raw = self._file.read(stored.size_bytes)
                feeds[key] = np.frombuffer(raw, stored.dtype).reshape(stored.shape)
        return feeds
