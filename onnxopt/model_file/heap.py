"""Memory: freed memory returns to the system; garbage collection pauses while only long-lived objects are made."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

_MANY = 100_000
"""Objects made at once that are worth setting aside: those of a graph of some thousand nodes."""
_MOST = 5_000_000
"""Most objects that are set aside without a look for garbage among them."""

_SETS_ASIDE: ContextVar[bool] = ContextVar("sets_aside", default=False)


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
    aside = _SETS_ASIDE.get()
    if aside:
        gc.unfreeze()
    gc.collect()
    if aside:
        gc.freeze()
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
    thousands of nodes takes. No work that drops graphs, which are freed by it, may be inside. Within `set_aside`
    what was made is not looked through afterwards either.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _SETS_ASIDE.get() and gc.get_count()[0] > _MANY:
            _set_aside(_MOST)
        gc.enable()


@contextmanager
def set_aside(objects: int) -> Iterator[None]:
    """Look for garbage before work on graphs of thousands of nodes, not among what `without_collections` makes in it.

    Python looks through new objects three times, and through all objects each time that their number has grown by a
    quarter: a tenth of the time of the work, and most of what it looks through lives on. The objects take part in
    collections again when the work is over. Nothing changes for work on few objects, within other such work, and in a
    program that has set aside objects of its own.

    Args:
        objects: about the number of objects that one graph is made of.
    """
    if objects < _MANY or _SETS_ASIDE.get() or not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    _set_aside(most=0)
    token = _SETS_ASIDE.set(True)
    try:
        yield
    finally:
        _SETS_ASIDE.reset(token)
        gc.unfreeze()


def _set_aside(most: int) -> None:
    if gc.get_freeze_count() >= most:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
