"""A device by its address."""

from onnxopt.measure.device.local import SCHEME, Interpreter
from onnxopt.measure.device.ssh import Board


def place_of(text: str) -> Board | Interpreter:
    """Return the device at an address.

    A board is `ssh://[user@]host[:port][?python=PATH]`, a Python of this machine
    `local:///path/to/python[?provider=NAME]`. `max_celsius=NUMBER` after the question mark replaces the limit of the
    temperature at the start.

    Raises:
        UsageError: ONX101 the text has another form.
    """
    return Interpreter.parse(text) if text.startswith(f"{SCHEME}:") else Board.parse(text)
