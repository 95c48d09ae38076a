"""Memory: freed memory returns to the system; garbage collection pauses while only long-lived objects are made."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

_MANY = 100_000
"""Objects made at once that are worth setting aside: those of a graph of some thousand nodes."""
_MOST = 4_000_000
"""Most objects that are set aside without a look for garbage among them; those of two graphs of 20,000 nodes."""


@dataclass
class _Aside:
    """The number of objects that are set aside."""

    objects: int


_ASIDE: ContextVar[_Aside | None] = ContextVar("aside", default=None)


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
    aside = _ASIDE.get()
    if aside is not None:
        gc.unfreeze()
    gc.collect()
    if aside is not None:
        gc.freeze()
        aside.objects = gc.get_freeze_count()
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
        aside, new = _ASIDE.get(), gc.get_count()[0]
        if aside is not None and new > _MANY:
            _set_aside(aside, new)
        gc.enable()


@contextmanager
def set_aside(objects: int) -> Iterator[None]:
    """Within work on graphs of thousands of nodes, look for no garbage among what `without_collections` has made.

    Python looks through new objects three times, and through all objects each time that their number has grown by a
    quarter: a tenth of the time of the work, and most of what it looks through lives on. The objects take part in
    collections again when the work is over, and once their number is very large, with what earlier work has left.
    Nothing changes for work on few objects, within other such work, and in a program that has set aside objects of its
    own.

    Args:
        objects: about the number of objects that one graph is made of.
    """
    if objects < _MANY or _ASIDE.get() is not None or not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    gc.freeze()
    aside = _Aside(0)
    _set_aside(aside, gc.get_freeze_count())
    token = _ASIDE.set(aside)
    try:
        yield
    finally:
        _ASIDE.reset(token)
        gc.unfreeze()


def _set_aside(aside: _Aside, new: int) -> None:
    """Set aside all objects, `new` of which were not before."""
    aside.objects += new
    if aside.objects > _MOST:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
    if aside.objects > _MOST:
        aside.objects = gc.get_freeze_count()
