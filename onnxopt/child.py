"""Environments of processes: no telemetry in any, and none that takes modules from the current folder.

ONNX Runtime's Linux wheels have an uploader compiled in since 1.29, which is on unless `ORT_DISABLE_TELEMETRY` is set
before the library is first loaded. So `import onnxopt` sets it, unless the user has set it.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TELEMETRY = "ORT_DISABLE_TELEMETRY"
_SAFE_PATH = "PYTHONSAFEPATH"
_STARTING = threading.Lock()


def disable_telemetry() -> None:
    """Switch off the telemetry of ONNX Runtime, unless the user has set the variable."""
    os.environ.setdefault(TELEMETRY, "1")


def telemetry(environment: Mapping[str, str] = os.environ) -> str:
    """Return whether ONNX Runtime sends telemetry from this process, in words."""
    value = environment.get(TELEMETRY)
    if value == "1":
        return "off"
    return f"not disabled: {TELEMETRY} is {'not set' if value is None else repr(value)}"


def child_environment(**further: str) -> dict[str, str]:
    """Return the environment of a child process: this one's modules, none of the current folder, no telemetry.

    Args:
        further: variables that the user's own do not replace.
    """
    here, package = str(Path.cwd()), str(Path(__file__).parents[1])
    paths = os.pathsep.join(path for path in sys.path if path and (path != here or path == package))
    return {**further, TELEMETRY: "1", **os.environ, _SAFE_PATH: "1", "PYTHONPATH": paths}


@contextmanager
def safe_start() -> Iterator[None]:
    """Keep processes that `multiprocessing` starts inside from importing modules of the current folder.

    It offers no environment for a child, so the variable is set here for as long as the start takes.
    """
    with _STARTING:
        before = os.environ.get(_SAFE_PATH)
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_SAFE_PATH]
            else:
                os.environ[_SAFE_PATH] = before
