"""Cache of measurements: a JSON file in the user's cache folder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import platformdirs

from onnxopt.errors import FileError
from onnxopt.files import read_json
from onnxopt.model_file import atomic_write_text

T = TypeVar("T")

MOST_ENTRIES = 20_000
"""Most entries of a file; the oldest are dropped."""


class Remembered(Generic[T]):
    """Values by key in a file that several processes may share.

    Values in an unreadable file count as unknown; values that could not be written are measured again.

    Args:
        path: path of the file; None keeps values in this object only.
        fits: checks the form of a stored value.
    """

    def __init__(self, path: Path | None, fits: Callable[[Any], bool]) -> None:
        self._path, self._fits = path, fits
        self._known = self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> T:
        return self._known[key]

    def keep(self, found: Mapping[str, T]) -> None:
        """Add measured values."""
        self._known |= found
        if self._path is None:
            return
        # Another process may have written other values meanwhile; the last writer keeps both.
        older = {key: value for key, value in {**self._read(), **self._known}.items() if key not in found}
        self._known = dict([*older.items(), *found.items()][-MOST_ENTRIES:])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self._path, json.dumps(self._known, indent=0), overwrite=True)
        except (FileError, OSError):
            self._path = None

    def _read(self) -> dict[str, T]:
        if self._path is None:
            return {}
        try:
            found = read_json(self._path)
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in found.items() if self._fits(value)} if isinstance(found, dict) else {}


def cache_folder() -> Path:
    """Return the user's cache folder for this program, by the system's convention."""
    return platformdirs.user_cache_path("onnxopt", appauthor=False)


def is_duration(value: object) -> bool:
    """Return whether a value is a finite number, zero or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
