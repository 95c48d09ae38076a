"""When a search must end."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TimeOver(Exception):
    """The time limit was reached while something was prepared that no candidate waits for."""


class Deadline:
    """Runs from the moment it is made, or begun.

    Args:
        limit_s: seconds; None for no end.
        begun: whether it runs from now on.
    """

    def __init__(self, limit_s: float | None, *, begun: bool = True) -> None:
        self._limit_s, self._hurried = limit_s, False
        self._began = time.monotonic() if begun else None

    def begin(self) -> None:
        """Run from now on, unless it does."""
        if self._began is None:
            self._began = time.monotonic()

    def over(self) -> bool:
        """Return whether the time is over."""
        if self._limit_s is None or self._began is None:
            return False
        return time.monotonic() - self._began > self._limit_s

    def in_time(self, make: Callable[[], T]) -> T | None:
        """Return what `make` returns; it is given up when the time is over, for it only makes further candidates."""
        self._hurried = True
        try:
            return make()
        except TimeOver:
            return None
        finally:
            self._hurried = False

    def check(self) -> None:
        """Leave `in_time` when the time is over; to be called as often as there is progress."""
        if self._hurried and self.over():
            raise TimeOver
