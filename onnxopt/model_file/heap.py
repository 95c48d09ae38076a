"""Memory: freed memory returns to the system; garbage collection pauses while only long-lived objects are made."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


def trim_heap() -> None:
    """Return freed memory to the system where the C library keeps it (glibc), before a step that needs much of it.

    Weights of some megabytes are freed in pieces between others that stay in use, and the gaps count as used memory.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def drop_graphs() -> None:
    """Free the graphs and protobufs that nobody has any more, and return their memory to the system.

    Their parts hold each other, so that Python frees them, with all their weights, only when it looks for garbage. It
    does so rarely in a process of many objects.
    """
    gc.collect()
    trim_heap()


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
