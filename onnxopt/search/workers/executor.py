"""Executors of trials: this process, or one process per trial; a cluster has the same interface."""

import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from onnxopt.child import safe_start
from onnxopt.errors import NativeError, OnnxoptError, first_line

P = ParamSpec("P")
T = TypeVar("T")
_LOOK_S = 0.2
"""Seconds between two checks whether a task was cancelled."""


class _Task(Future[T]):
    """A future whose `cancel` also ends its process."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()

    def cancel(self) -> bool:
        self.given_up.set()
        return super().cancel()


class Isolated(Executor):
    """Runs one task at a time, each in a new process, so that a crash, a hang or lack of memory ends only the task.

    Functions, arguments and results are pickled, so functions must be importable by name.

    Args:
        timeout_s: time limit of one task; None for no limit.
        memory_bytes: limit of one task's data, if the system supports it; None for no limit.
    """

    def __init__(self, timeout_s: float | None = None, memory_bytes: int | None = None) -> None:
        self.timeout_s, self.memory_bytes = timeout_s, memory_bytes
        self._one = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start `fn` and return its future; to cancel the future ends the process.

        The future raises NativeError ONX406 if the process took too long or died, else the exception of `fn`.
        """
        future = _Task[T]()
        threading.Thread(target=self._run, args=(future, fn, args, kwargs), daemon=True).start()
        return future

    def _run(self, future: _Task[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with self._one:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(self._in_process(future.given_up, fn, args, kwargs))
            except BaseException as error:
                future.set_exception(error)

    def _in_process(
        self, given_up: threading.Event, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        # Not forked, because threads of a runtime do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, self.memory_bytes, fn, args, kwargs), daemon=True)
        with safe_start():
            process.start()
        theirs.close()
        try:
            self._wait(ours, given_up)
            worked, value = ours.recv()
        except EOFError as error:
            process.join()
            raise NativeError("ONX406", "the process of a trial died", why=_cause(process.exitcode)) from error
        finally:
            process.kill()
            process.join()
        if not worked:
            raise value
        return value  # type: ignore[no-any-return]

    def _wait(self, pipe: Connection, given_up: threading.Event) -> None:
        end = math.inf if self.timeout_s is None else time.monotonic() + self.timeout_s
        while not pipe.poll(max(0.0, min(_LOOK_S, end - time.monotonic()))):
            if given_up.is_set():
                raise NativeError("ONX406", "a trial was given up")
            if time.monotonic() >= end:
                raise NativeError(
                    "ONX406", "a trial took too long and was stopped", why=f"more than {self.timeout_s:g} s"
                )


def _work(
    pipe: Connection, memory_bytes: int | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    # Ctrl-C reaches every process of the terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_bytes is not None:
        _limit(memory_bytes)
    try:
        pipe.send((True, fn(*args, **kwargs)))
    except MemoryError:
        why = f"more than {memory_bytes} bytes" if memory_bytes else ""
        pipe.send((False, NativeError("ONX406", "a trial ran out of memory", why=why)))
    except OnnxoptError as error:
        pipe.send((False, error))
    except Exception as error:  # it may not be picklable
        pipe.send((False, NativeError("ONX406", "a trial failed", why=f"{type(error).__name__}: {first_line(error)}")))


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit status {exit_code}"
