"""The deadline of a command, and the time reserved for proof and report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import TypeVar

from onnxopt.measure.runtime.interrupt import TimeOver, cut_when, raise_if_interrupted

__all__ = ["GRACE_S", "Deadline", "TimeOver"]

T = TypeVar("T")

GRACE_S = 10.0
"""Smallest time for baseline, proof and report together, for any limit."""

_MOST_MORE = 0.25
"""Largest share of the time left for candidates that `reserve_for` takes."""


class Deadline:
    """A time limit that starts with its creation.

    Args:
        limit_s: seconds of the whole command; None for no limit.
        clock: returns seconds.

    Attributes:
        reserve_s: seconds reserved for proof and report.
    """

    def __init__(self, limit_s: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s, self.reserve_s = limit_s, 0.0
        self._clock, self._began = clock, clock()
        self._searching, self._hurried = True, False

    def look_up(self) -> None:
        """Do not end the search until `begin`, while recorded results are read."""
        self._searching = False

    def begin(self) -> None:
        """Apply the time limit from now on."""
        self._searching = True

    def elapsed_s(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._began

    def left_s(self) -> float:
        """Return the seconds until the end of the command."""
        return inf if self.limit_s is None else max(self.limit_s, GRACE_S) - self.elapsed_s()

    def candidates_left_s(self) -> float:
        """Return the seconds left for candidates; infinite without a limit."""
        return self.left_s() - self.reserve_s

    def reserve_for(self, more_s: float) -> None:
        """Reserve more seconds for the proof, at most a quarter of the time left for candidates."""
        self.reserve_s += min(more_s, _MOST_MORE * max(self.candidates_left_s(), 0.0))

    def over(self) -> bool:
        """Return whether the time for the search is over."""
        return (
            self.limit_s is not None and self._searching and self.elapsed_s() > max(self.limit_s - self.reserve_s, 0.0)
        )

    def ended(self) -> bool:
        """Return whether the time of the command is over."""
        return self.left_s() < 0

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Interrupt the enclosed work with `TimeOver` when the time for the search is over."""
        if self.limit_s is None:
            yield
            return
        with cut_when(self.over):
            yield

    @contextmanager
    def ending(self, timeout_s: float | None = None) -> Iterator[None]:
        """Interrupt the enclosed work with `TimeOver` when the time of the command is over, or after `timeout_s`."""
        if self.limit_s is None and timeout_s is None:
            yield
            return
        start_s = self._clock()
        with cut_when(lambda: self.ended() or (timeout_s is not None and self._clock() - start_s > timeout_s)):
            yield

    @property
    def hurried(self) -> bool:
        """Whether `in_time` is running."""
        return self._hurried

    def in_time(self, make: Callable[[], T]) -> T | None:
        """Return the result of `make`, which only builds further candidates; None if the time is over before."""
        self._hurried = True
        try:
            with self.searching():
                return make()
        except TimeOver:
            return None
        finally:
            self._hurried = False

    def check(self) -> None:
        """Raise `TimeOver` in interrupted work when the time is over; to be called with each progress."""
        raise_if_interrupted()
