"""Calls of the user's functions: every failure becomes one line, and the process keeps its state."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from onnxopt.errors import OnnxoptError, UsageError, first_line
from onnxopt.measure.runtime.interrupt import raise_if_interrupted

T = TypeVar("T")

LIMIT_S = 600.0
"""Time for one call, unless the function has an attribute `time_limit_s`."""
_LOOK_S = 0.2


def call_user(name: str, what: str, function: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Return the result of `function`.

    It runs in a thread, which is abandoned if it takes too long, because Python cannot end a thread. The current folder
    is restored. Ctrl-C ends the wait.

    Args:
        name: name of the user's function, for errors.
        what: the failure in words, such as `it failed while scoring`.
        function: calls the user's function.
        limit_s: time limit of the call.

    Raises:
        UsageError: ONX107 the function raised an exception, SystemExit included, or exceeded the limit.
        OnnxoptError: the function raised one.
    """
    results: list[T] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # a SystemExit would end the command with the function's exit status
            failures.append(error)
        finally:
            done.set()

    before = Path.cwd()
    end = time.monotonic() + limit_s
    try:
        threading.Thread(target=work, name="onnxopt-user", daemon=True).start()
        while not done.wait(min(_LOOK_S, max(0.0, end - time.monotonic()))):
            raise_if_interrupted()
            if time.monotonic() >= end:
                hint = "Correct it, or give it an attribute time_limit_s with more seconds."
                raise UsageError(
                    "ONX107",
                    "the metric's function cannot be used",
                    where=name,
                    why=f"one call took longer than {limit_s:g} s",
                    hint=hint,
                )
    finally:
        with suppress(OSError):
            os.chdir(before)
    if failures:
        if isinstance(failures[0], OnnxoptError | KeyboardInterrupt):
            raise failures[0]
        raise unusable(name, what, failures[0]) from failures[0]
    return results[0]


def unusable(name: str, what: str, error: BaseException) -> UsageError:
    """Return the error for a function that failed."""
    why = f"{what} with {type(error).__name__}: {first_line(error)}"
    return UsageError("ONX107", "the metric's function cannot be used", where=name, why=why, hint="Correct it.")
