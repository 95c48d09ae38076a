"""Run a kit on a device: one connection (a board's is the OpenSSH client) sends the kit and returns the result."""

import io
import shlex
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from onnxopt.child import TELEMETRY
from onnxopt.errors import NativeError, OnnxoptError, UsageError, first_line
from onnxopt.measure.device.heat import HOTTEST_CELSIUS, limit_of
from onnxopt.measure.device.kit import OUTPUTS, RESULT, RUNNER
from onnxopt.measure.runtime.interrupt import raise_if_interrupted

LOOK_S = 0.5
"""Seconds between two checks whether the run is interrupted."""

CONNECTION_FAILED = 255
"""Exit status of ssh if ssh itself failed, not the remote command."""

# Runs on the board before the kit's own file: unpack the kit, run it, send its output files back. It runs in the same
# process, because the python of a board may be a wrapper script. Whatever the kit prints is not part of the answer.
BOOTSTRAP = f"""
import os, runpy, sys, tarfile, tempfile
back = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
with tempfile.TemporaryDirectory(prefix="onnxopt-") as place:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as kit:
        kit.extractall(place)
    sys.argv = [os.path.join(place, {RUNNER!r})]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    with back, tarfile.open(fileobj=back, mode="w|") as sent:
        for name in ({RESULT!r}, {OUTPUTS!r}):
            sent.add(os.path.join(place, name), name)
"""


PROBE = """
import numpy, onnxruntime, platform
print(platform.machine())
try:
    print(open("/proc/cpuinfo", errors="replace").read())
except OSError:
    pass
"""
"""Imports the packages that a kit needs, and prints the facts of the processor."""


class Device(Protocol):
    """A place where a kit runs."""

    @property
    def host(self) -> str:
        """The name in messages."""

    @property
    def python(self) -> str:
        """The command or path of its Python."""

    def command(self, program: str) -> list[str]:
        """Return the command that runs a Python program there."""

    def environment(self) -> dict[str, str] | None:
        """Return the environment of that command; None for this process's."""

    def not_started(self) -> OnnxoptError:
        """Return the error for a command that cannot be started."""

    def unreachable(self, status: int, why: str) -> OnnxoptError | None:
        """Return the error for an exit status that means that the place was not reached; None for any other."""


@dataclass(frozen=True)
class Board:
    """A machine that is reachable with ssh.

    Attributes:
        host: name or address, with `user@` in front if it was given.
        port: the port; None for the ssh configuration's.
        python: command or path of a remote Python with onnxruntime and numpy.
        options: further `-o` options of ssh.
        max_celsius: highest temperature at the start of a kit.
    """

    host: str
    port: int | None = None
    python: str = "python3"
    options: tuple[str, ...] = ()
    max_celsius: float = HOTTEST_CELSIUS

    @property
    def provider(self) -> str:
        """The execution provider of the runs."""
        return "cpu"

    @classmethod
    def parse(cls, text: str) -> "Board":
        """Read `ssh://[user@]host[:port][?python=PATH&max_celsius=NUMBER]`.

        Raises:
            UsageError: ONX101 the text has another form.
        """
        try:
            parts = urlsplit(text)
            port, host = parts.port, parts.hostname or ""
            asked = parse_qs(parts.query)
            limit = limit_of(asked.get("max_celsius", [str(HOTTEST_CELSIUS)])[0])
        except ValueError as error:
            raise _unreadable(text) from error
        named = unquote(parts.username or "") + host
        if (
            parts.scheme != "ssh"
            or not host
            or named.startswith("-")  # ssh would take it for an option
            or not named.isprintable()
            or " " in named
            or set(asked) - {"python", "max_celsius"}
            or parts.path.strip("/")
        ):
            raise _unreadable(text)
        user = f"{unquote(parts.username)}@" if parts.username else ""
        return cls(user + host, port, asked.get("python", ["python3"])[0], max_celsius=limit)

    def command(self, program: str) -> list[str]:
        """Return the ssh command that runs a Python program on the board."""
        remote = f"{TELEMETRY}=1 PYTHONSAFEPATH=1 {shlex.quote(self.python)} -c {shlex.quote(program)}"
        port = ["-p", str(self.port)] if self.port else []
        options = [word for option in ("BatchMode=yes", *self.options) for word in ("-o", option)]
        return ["ssh", *options, *port, "-T", "-C", "--", self.host, remote]

    def environment(self) -> None:
        """Return this process's environment."""

    def not_started(self) -> OnnxoptError:
        """Return the error for a missing OpenSSH client."""
        return UsageError(
            "ONX108", "the OpenSSH client is not installed", where="ssh", hint="Install it, or carry a bundle by hand."
        )

    def unreachable(self, status: int, why: str) -> OnnxoptError | None:
        """Return the error where ssh itself failed."""
        if status != CONNECTION_FAILED:
            return None
        hint = f"Try: ssh {self.host}; a key must be set up, because ssh runs without a password prompt."
        return NativeError("ONX404", "the device cannot be reached", where=self.host, why=why, hint=hint)


def run_on_board(kit: Path, board: Device, timeout_s: float = 3600.0) -> Path:
    """Run `kit` on `board`, put the result beside its `job.json`, and return its path.

    Raises:
        UsageError: ONX108 the OpenSSH client is not installed here.
        NativeError: ONX404 the board cannot be reached, ONX405 the run failed or took longer than `timeout_s`.
        TimeOver: the time of the work that contains this run is over.
    """
    require_packages(board)
    pipe = subprocess.PIPE
    process = subprocess.Popen(board.command(BOOTSTRAP), stdin=pipe, stdout=pipe, stderr=pipe, env=board.environment())
    assert process.stdin is not None
    sender = threading.Thread(target=_send, args=(kit, process.stdin), daemon=True)
    sender.start()
    try:
        # communicate() would close our writing thread's pipe: it must not be handed stdin.
        process.stdin = None
        sent_back, said = _answer(process, timeout_s, board)
    finally:
        process.kill()
        process.wait()
        sender.join(timeout=5)
    if process.returncode:
        raise NativeError("ONX405", "the run on the device failed", where=board.host, why=_last_line(said))
    _receive(sent_back, kit, board)
    return kit / RESULT


def _answer(process: subprocess.Popen[bytes], timeout_s: float, board: Device) -> tuple[bytes, bytes]:
    """Return all that the process writes, or end early when the work that contains this is interrupted."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        try:
            return process.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            raise_if_interrupted()
    raise NativeError("ONX405", "the run on the device took too long", where=board.host)


def _unreadable(text: str) -> UsageError:
    return UsageError(
        "ONX101",
        "the device cannot be read",
        where=text,
        hint="Write ssh://user@board, with :port or ?python=/path/to/python where needed, or local:///path/to/python.",
    )


def require_packages(board: Device) -> str:
    """Check, before a kit is sent, that the board answers and has the packages that a kit needs.

    Returns:
        Its architecture on the first line, and below it the contents of /proc/cpuinfo, where there is one.

    Raises:
        UsageError: ONX108 the OpenSSH client is not installed here.
        NativeError: ONX404 the board cannot be reached, ONX405 its Python lacks a package.
    """
    command = board.command(PROBE)
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=board.environment()
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise board.not_started() from error
    last = _last_line(ended.stderr)
    unreachable = board.unreachable(ended.returncode, last)
    if unreachable is not None:
        raise unreachable
    if ended.returncode:
        hint = f"{board.python} on the device needs onnxruntime and numpy; name another Python if it lacks them."
        raise NativeError("ONX405", "a kit cannot run on the device", where=board.host, why=last, hint=hint)
    return ended.stdout.decode(errors="replace")


def _send(kit: Path, pipe: IO[bytes]) -> None:
    try:
        with pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
            for path in _files(kit):
                tar.add(path, str(path.relative_to(kit)))
    except OSError:
        pass  # the other end has closed the connection: its exit status tells why


def _files(kit: Path) -> Iterator[Path]:
    return (path for path in sorted(kit.rglob("*")) if path.is_file() and path.name not in (RESULT, OUTPUTS))


def _receive(sent_back: bytes, kit: Path, board: Device) -> None:
    """Extract two files by their expected names only: a device is not trusted to name paths."""
    try:
        with tarfile.open(fileobj=io.BytesIO(sent_back), mode="r:") as tar:
            for name in (RESULT, OUTPUTS):
                member = tar.extractfile(name)
                if member is None:
                    raise KeyError(name)
                (kit / name).write_bytes(member.read())
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise NativeError(
            "ONX405", "the device sent no readable result", where=board.host, why=first_line(error)
        ) from error


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
