"""Another Python of this machine as a device, such as one with another build of ONNX Runtime."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from onnxopt.child import TELEMETRY
from onnxopt.errors import NativeError, OnnxoptError, UsageError
from onnxopt.measure.device.heat import HOTTEST_CELSIUS, limit_of

SCHEME = "local"


@dataclass(frozen=True)
class Interpreter:
    """Another Python interpreter of this machine, with other packages.

    Attributes:
        python: path of the interpreter.
        provider: execution provider of the runs, by its short or full name.
        max_celsius: highest temperature at the start of a kit.
    """

    python: str
    provider: str = "cpu"
    max_celsius: float = HOTTEST_CELSIUS

    @classmethod
    def parse(cls, text: str) -> "Interpreter":
        """Read `local:///path/to/python[?provider=NAME&max_celsius=NUMBER]`.

        Raises:
            UsageError: ONX101 the text has another form.
        """
        parts = urlsplit(text)
        given = parse_qs(parts.query)
        path = unquote(parts.path)
        try:
            limit = limit_of(given.get("max_celsius", [str(HOTTEST_CELSIUS)])[0])
        except ValueError as error:
            raise _unreadable(text) from error
        other = set(given) - {"provider", "max_celsius"}
        if parts.scheme != SCHEME or parts.netloc or not Path(path).is_absolute() or other:
            raise _unreadable(text)
        return cls(path, given.get("provider", ["cpu"])[0], limit)

    @property
    def host(self) -> str:
        """The name in messages."""
        return self.python

    def command(self, program: str) -> list[str]:
        """Return the command that runs a Python program."""
        return [self.python, "-c", program]

    def environment(self) -> dict[str, str]:
        """Return the environment of the command: none of the packages that this process was given by path."""
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        return {**kept, TELEMETRY: "1", "PYTHONSAFEPATH": "1"}

    def not_started(self) -> OnnxoptError:
        """Return the error for a command that cannot be started."""
        hint = "Give the path of a Python that has onnxruntime and numpy."
        return NativeError(
            "ONX404", "the device cannot be reached", where=self.python, why="no such program", hint=hint
        )

    def unreachable(self, status: int, why: str) -> OnnxoptError | None:
        """Return None: a local program is always reached."""
        return None


def _unreadable(text: str) -> UsageError:
    hint = "Write local:///path/to/python, with ?provider=openvino where needed."
    return UsageError("ONX101", "the device cannot be read", where=text, hint=hint)
