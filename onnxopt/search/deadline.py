"""When a search must end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _TimeOver(Exception):
    """The time limit was reached while something was prepared that no candidate waits for."""


class Deadline:
    """Runs from the moment it is made.

    Args:
        limit_s: seconds; None for no end.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s, self._began, self._hurried = limit_s, time.monotonic(), False

    def over(self) -> bool:
        """Return whether the time is over."""
        return self._limit_s is not None and time.monotonic() - self._began > self._limit_s

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Give up what is done inside when the time is over; it would only make further candidates."""
        self._hurried = True
        try:
            with suppress(_TimeOver):
                yield
        finally:
            self._hurried = False

    def check(self) -> None:
        """Leave `hurrying` when the time is over; to be called as often as there is progress."""
        if self._hurried and self.over():
            raise _TimeOver
