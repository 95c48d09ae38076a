"""Ctrl-C while ONNX Runtime computes: Python cannot deliver it inside a native call, `RunOptions.terminate` can."""

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TypeVar

import onnxruntime

T = TypeVar("T")

_RUN_OPTIONS: ContextVar["onnxruntime.RunOptions | None"] = ContextVar("run_options", default=None)

POLL_S = 0.2
"""How often the waiting thread looks up; a wait without a limit cannot be interrupted on Windows."""

PATIENCE_S = 5.0
"""How long to wait for the node that is running to end before leaving the worker behind."""


def run_options() -> "onnxruntime.RunOptions | None":
    """Return what every native run of this thread must be started with; None outside `interruptible`."""
    return _RUN_OPTIONS.get()


def raise_if_interrupted() -> None:
    """Stop work that `interruptible` was asked to end.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    options = _RUN_OPTIONS.get()
    if options is not None and options.terminate:
        raise KeyboardInterrupt


def interruptible(function: Callable[[], T]) -> T:
    """Call `function` so that Ctrl-C ends it promptly, also inside a long run of a model.

    The work moves to a thread of its own and the caller waits. On Ctrl-C the native run is told to stop, every later
    one refuses to start, and `KeyboardInterrupt` is raised. A nested call, or one outside the main thread, which never
    sees Ctrl-C, calls `function` directly.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    if _RUN_OPTIONS.get() is not None or threading.current_thread() is not threading.main_thread():
        return function()
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    done = threading.Event()
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        _RUN_OPTIONS.set(options)
        try:
            results.append(function())
        except BaseException as error:  # carried over to the caller's thread and raised there
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
