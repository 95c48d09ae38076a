"""The memory of the command: one heap for all threads."""

import ctypes
import sys

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""


def one_heap() -> bool:
    """Let all threads take memory from one heap, where the C library has one for each (glibc).

    Each of them keeps the memory that its threads have freed. Programs that import onnxopt decide for themselves.

    Returns:
        Whether the C library takes the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    except OSError:  # a C library that cannot be opened by name
        return False
    return mallopt is not None and bool(mallopt(_ARENA_MAX, 1))
