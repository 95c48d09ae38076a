"""Memory that was freed, given back to the system."""

import ctypes
import sys
from functools import cache
from typing import Any


def trim_heap() -> None:
    """Give freed memory back where the C library keeps it (glibc), before a step that takes much; else do nothing.

    Weights of some megabytes are freed in pieces between others that live on, and what they leave counts as used.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except OSError:  # a C library that cannot be opened by name
        return None
