"""A full disk: an error of the disk, wherever it is met."""

import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

from onnxopt.errors import FileError, first_line

_RUNTIME_SAYS = ("Protobuf serialization failed", "Failed to save ORT format model")
"""Complaints of the runtime about a file that it could not write; it calls them faults of the model."""


def no_room(where: str, why: str) -> FileError:
    """Return the error for a file that cannot be written, a temporary one most often."""
    hint = "Free some space, or set TMPDIR to a folder that has some."
    return FileError("ONX503", "there is no room to write a file", where=where, why=why, hint=hint)


def is_about_room(error: Exception) -> bool:
    """Return whether the runtime failed because it could not write a file."""
    return any(text in str(error) for text in _RUNTIME_SAYS)


def require_room(folder: Path, size_bytes: int) -> None:
    """Require that a folder can take a file of a size, before anything in it is removed or replaced.

    Raises:
        FileError: ONX503.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, max(size_bytes, 1))
            elif shutil.disk_usage(folder).free < size_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot say
            raise no_room(str(folder), error.strerror or first_line(error)) from error
