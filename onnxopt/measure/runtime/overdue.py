"""The time limit of one run of a model, whose loops may never end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from onnxopt.errors import NativeError

RUN_LIMIT_S = 600.0
"""Time limit of one run; that of one call of a user's function is the same."""

_POLL_S = 1.0
_IDLE_POLLS = 30
"""Polls without a run after which the watching thread ends."""


class _Terminable(Protocol):
    terminate: bool


@dataclass(eq=False)
class _Run:
    options: _Terminable
    end: float
    overdue: bool = False


class _Watch:
    """Terminates runs that are overdue, in one thread for all of them: a timer for each costs more than a short run."""

    def __init__(self) -> None:
        self._lock, self._thread = threading.Lock(), threading.Thread()
        self._runs = set[_Run]()

    def begin(self, run: _Run) -> None:
        with self._lock:
            self._runs.add(run)
            if not self._thread.is_alive():  # a forked process has lost it
                self._thread = threading.Thread(target=self._look, name="onnxopt-overdue", daemon=True)
                self._thread.start()

    def end(self, run: _Run) -> None:
        with self._lock:
            self._runs.discard(run)

    def _look(self) -> None:
        idle = 0
        while True:
            time.sleep(_POLL_S)
            now = time.monotonic()
            with self._lock:
                for run in self._runs:
                    if now > run.end:
                        run.overdue = run.options.terminate = True
                idle = 0 if self._runs else idle + 1
                if idle > _IDLE_POLLS:
                    self._thread = threading.Thread()
                    return


_WATCH = _Watch()


@contextmanager
def in_time(options: _Terminable) -> Iterator[None]:
    """Terminate the native run inside, which was started with `options`, when it takes longer than `RUN_LIMIT_S`.

    Raises:
        NativeError: ONX410 it did.
    """
    run = _Run(options, time.monotonic() + RUN_LIMIT_S)
    _WATCH.begin(run)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not run.overdue:
            raise
        options.terminate = False  # the next run may start
        raise NativeError(
            "ONX410",
            "a run of the model does not end",
            why=f"it was stopped after {RUN_LIMIT_S:g} s",
            hint="Look at the loops of the model: the condition of one may stay true.",
        ) from error
    finally:
        _WATCH.end(run)
