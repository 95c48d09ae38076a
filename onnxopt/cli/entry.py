"""The way in: run one command, turn every ending into an exit code and at most one line on stderr."""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from onnxopt.cli.app import app
from onnxopt.cli.usage import as_usage_error
from onnxopt.errors import ExitCode, FileError, OnnxoptError, first_line
from onnxopt.printable import printable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Base of every complaint about the arguments; typer exports only this child of it.
_Complaint: type[Exception] = typer.BadParameter.__mro__[1]

_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
"""`M_ARENA_MAX`, `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD` of glibc's malloc.h."""

_LARGE_BYTES, _KEPT_BYTES = 1 << 22, 1 << 26
"""Blocks from the first size on go back to the system when they are freed; smaller ones do so from the second size on.

Blocks of less than 4 MB would take much longer so: the system clears each page of them anew.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        _open_streams()
        one_heap()
    try:
        with _ended_in_order():
            _refuse_no_folder()
            code = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain while flushing at exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OnnxoptError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return ExitCode.INTERRUPTED
    except OSError as error:
        if not _is_about_room(error):
            return _bug(error, verbose=_asks_for_details(given))
        from onnxopt.model_file.room import no_room

        full = no_room(error.filename or "", error.strerror or first_line(error))
        _say(str(full))
        return full.exit_code
    except Exception as error:  # the last resort: whatever it is, it is our bug, not the user's
        return _bug(error, verbose=_asks_for_details(given))
    return code


def _refuse_no_folder() -> None:
    """Refuse to work in a folder that was deleted: paths, and modules of child processes, are found from there.

    Raises:
        FileError: ONX501.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        hint = "Change to a folder that exists, and run it again."
        raise FileError("ONX501", "the current folder does not exist any more", hint=hint) from error


def _open_streams() -> None:
    """Open each standard stream that is closed, as under some schedulers, to nowhere.

    Otherwise the next file gets its number, such as a model that is written, and whatever a library prints goes there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """End on a signal of a scheduler or a container as on Ctrl-C, with the same files."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread: whoever runs us there decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("onnxopt", list(arguments)) as context:
            code = command.invoke(context)
    except typer.Exit as ending:
        return int(ending.exit_code)
    except _Complaint as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error)
            return ExitCode.USAGE
        raise as_usage_error(error) from error
    return int(code or 0)


def _is_about_room(error: OSError) -> bool:
    """Return whether a disk is full or read-only; `tempfile` says of all its folders that there is no such one."""
    return error.errno in _NO_ROOM or "No usable temporary directory" in str(error)


def _asks_for_details(arguments: Sequence[str]) -> bool:
    return "-v" in arguments or "--verbose" in arguments


def _say(text: str) -> None:
    print(printable(" ".join(text.split())), file=sys.stderr)


def _bug(error: Exception, *, verbose: bool) -> int:
    _say(
        f"ONX901: a bug in onnxopt: {type(error).__name__}: {first_line(error)}. "
        f"{'' if verbose else 'Run again with -v for the traceback and '}"
        f"{'Please' if verbose else 'please'} report it with the command line and the output of `onnxopt doctor`."
    )
    if verbose:
        import traceback

        traceback.print_exception(error)
    return ExitCode.BUG


def one_heap() -> bool:
    """Let all threads take memory from one heap, and freed weights return to the system, where the library is glibc.

    Without it each thread has a heap, which keeps the memory that the thread has freed, and once a block of 32 MB was
    freed all smaller ones stay there: of each session the weights, in pieces between others. Programs that import
    onnxopt decide for themselves.

    Returns:
        Whether the C library takes the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    except OSError:  # a C library that cannot be opened by name
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, _KEPT_BYTES))
    return mallopt is not None and all(mallopt(*setting) for setting in settings)
