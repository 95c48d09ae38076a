"""Models in a folder, each named by the checksum of its content."""

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.files import read_bytes

_DIGEST = re.compile("[0-9a-f]{64}")
_MOST_BYTES = 1 << 31
"""Largest size of a protobuf."""


class ModelStore:
    """Models by the SHA-256 of their bytes; models too large for a protobuf are not stored.

    Args:
        folder: created for the first model; only files with such names in it are changed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, model: ir.Model) -> str:
        """Write a model unless it is stored, and return its checksum; "" if it is too large.

        Raises:
            FileError: ONX503 it cannot be written.
        """
        if not model_file.fits_protobuf(model):
            return ""
        digest = model_file.digest(model)
        if not self._file(digest).exists():
            with suppress(OSError):  # the attempt to write the file reports the error
                self._folder.mkdir(exist_ok=True)
            model_file.atomic_write_bytes(self._file(digest), model_file.pieces(model))
        return digest

    def get(self, digest: str) -> ir.Model | None:
        """Return a model; None if it is missing or changed."""
        if not _DIGEST.fullmatch(digest):  # a journal is not trusted
            return None
        with suppress(OSError):
            data = read_bytes(self._file(digest), most=_MOST_BYTES)
            if hashlib.sha256(data).hexdigest() == digest:
                return model_file.keep_on_disk(model_file.from_bytes(data))
        return None

    def clear(self, digests: Iterable[str]) -> None:
        """Remove models, and the folder if it is empty then."""
        with suppress(OSError):
            for digest in filter(_DIGEST.fullmatch, digests):
                self._file(digest).unlink(missing_ok=True)
            self._folder.rmdir()

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}.onnx"
