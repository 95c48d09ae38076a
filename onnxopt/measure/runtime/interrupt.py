"""Ctrl-C and time limits while ONNX Runtime computes: Python cannot end a native call, `RunOptions` can."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

import onnxruntime

T = TypeVar("T")

_RUN_OPTIONS: ContextVar["onnxruntime.RunOptions | None"] = ContextVar("run_options", default=None)

POLL_S = 0.2
"""Interval at which the waiting thread wakes; on Windows, a wait without a limit cannot be interrupted."""

PATIENCE_S = 5.0
"""Longest wait for the end of the running node, before the worker is abandoned."""


class TimeOver(BaseException):
    """The time limit of work is over; like Ctrl-C it is no error, so that no handler takes it for a failure."""


class _Cut:
    """Ends native runs when the time is over.

    Args:
        over: returns whether the time is over.

    Attributes:
        ended_runs: whether native runs were ended, which then fail with an error of the runtime.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self.over = over
        self.ended_runs = False
        self.options = _quiet_options()
        self._watched: list[onnxruntime.RunOptions] = [self.options]
        self._ended = threading.Event()

    def watch(self, options: "onnxruntime.RunOptions") -> None:
        """Add the options of runs to end."""
        self._watched.append(options)

    def keep_looking(self) -> None:
        """Check the time until `end`."""
        while not self._ended.wait(POLL_S):
            if self.over():
                self.ended_runs = True
                for options in tuple(self._watched):
                    options.terminate = True
                return

    def end(self) -> None:
        """Stop checking the time."""
        self._ended.set()


_CUTS: ContextVar[tuple[_Cut, ...]] = ContextVar("cuts", default=())


@contextmanager
def cut_when(over: Callable[[], bool]) -> Iterator[None]:
    """End work inside with `TimeOver` once `over` returns True: a native run at its next node, other work at its next
    `raise_if_interrupted`. The limits around this one end its runs too.
    """
    cut, around = _Cut(over), _CUTS.get()
    for outer in around:
        outer.watch(cut.options)
    token = _CUTS.set((*around, cut))
    watcher = threading.Thread(target=cut.keep_looking, name="onnxopt-cut", daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        # Runs for timing are bare: one that was ended raises the runtime's own error.
        if cut.ended_runs or any(outer.ended_runs for outer in around):
            raise TimeOver from error
        raise
    finally:
        cut.end()
        _CUTS.reset(token)
        watcher.join()


def run_options() -> "onnxruntime.RunOptions | None":
    """Return the options with which every native run of this thread must start; None if runs cannot be ended."""
    cuts = _CUTS.get()
    return _RUN_OPTIONS.get() or (cuts[-1].options if cuts else None)


def raise_if_interrupted() -> None:
    """Stop work that `interruptible` or `cut_when` must end; long work in Python calls it at intervals.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
        TimeOver: the time is over.
    """
    if any(cut.over() for cut in _CUTS.get()):
        raise TimeOver
    options = _RUN_OPTIONS.get()
    if options is not None and options.terminate:
        raise KeyboardInterrupt


def interruptible(function: Callable[[], T]) -> T:
    """Call `function` so that Ctrl-C ends it promptly, also inside a long run of a model.

    The work runs in another thread and the caller waits. On Ctrl-C the native run is stopped, later runs refuse to
    start, and `KeyboardInterrupt` is raised. A nested call, and a call outside the main thread, which never receives
    Ctrl-C, calls `function` directly.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    if _RUN_OPTIONS.get() is not None or threading.current_thread() is not threading.main_thread():
        return function()
    options = _quiet_options()
    for cut in _CUTS.get():
        cut.watch(options)
    done = threading.Event()
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        _RUN_OPTIONS.set(options)
        try:
            results.append(function())
        except BaseException as error:  # raised again in the caller's thread
            failures.append(error)
        finally:
            done.set()

    worker = threading.Thread(target=copy_context().run, args=(work,), name="onnxopt-work", daemon=True)
    try:
        worker.start()
        while not done.wait(POLL_S):
            pass
    except KeyboardInterrupt:
        options.terminate = True
        done.wait(PATIENCE_S)
        raise
    if failures:
        raise failures[0]
    return results[0]


def _quiet_options() -> "onnxruntime.RunOptions":
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options
