"""A full disk: an error of the disk, wherever it is met."""

from onnxopt.errors import FileError

_RUNTIME_SAYS = ("Protobuf serialization failed", "Failed to save ORT format model")
"""Complaints of the runtime about a file that it could not write; it calls them faults of the model."""


def no_room(where: str, why: str) -> FileError:
    """Return the error for a file that cannot be written, a temporary one most often."""
    hint = "Free some space, or set TMPDIR to a folder that has some."
    return FileError("ONX503", "there is no room to write a file", where=where, why=why, hint=hint)


def is_about_room(error: Exception) -> bool:
    """Return whether the runtime failed because it could not write a file."""
    return any(text in str(error) for text in _RUNTIME_SAYS)
