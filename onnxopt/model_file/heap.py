"""Memory: what was freed is given back to the system; objects that all live on are not looked through for garbage."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def without_collections() -> Iterator[None]:
    """Pause Python's search for garbage while a graph is made, all of whose objects live on.

    It looks through all objects each time that their number has grown by a quarter: half of the time that a graph of
    thousands of nodes takes. No work that drops graphs, which are freed by it, may be inside.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
