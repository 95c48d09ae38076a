"""The tools over standard input and output, by the official package `mcp` (Model Context Protocol)."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

from onnxopt.errors import OnnxoptError
from onnxopt.extras import require
from onnxopt.tasks.served.root import Root
from onnxopt.tasks.served.tools import ReadTools, WriteTools

_ABOUT = (
    "Makes ONNX models smaller and faster within an accuracy budget, measured. Paths are relative to one folder. "
    "Exit codes and error codes are stable; every error says what to do next."
)


def server_of(root: Path, *, allow_write: bool = False) -> Any:
    """Return the server, an `MCPServer`: tools that read, and with `allow_write` those that write new files.

    Raises:
        FileError: ONX501 the root is not a folder.
        UsageError: ONX108 the package `mcp` is not installed.
    """
    package = require("mcp.server.mcpserver", "mcp", "this server")
    refusal = require("mcp.server.mcpserver.exceptions", "mcp", "this server").ToolError
    annotations = require("mcp.types", "mcp", "this server").ToolAnnotations
    inside = Root(root)
    server = package.MCPServer("onnxopt", instructions=_ABOUT, version=version("onnxopt"), log_level="ERROR")
    alone = Lock()
    tools = ReadTools(inside)
    for read in (tools.inspect, tools.check, tools.compare):
        server.add_tool(
            _as_tool(read, alone, refusal), annotations=annotations(read_only_hint=True, open_world_hint=False)
        )
    if allow_write:
        writing = WriteTools(inside)
        for write in (writing.optimize, writing.repair):
            hints = annotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
            server.add_tool(_as_tool(write, alone, refusal), annotations=hints)
    return server


def _as_tool(tool: Callable[..., Any], alone: Lock, refusal: type[Exception]) -> Callable[..., Any]:
    """Return a tool whose errors are answers, and which waits for other tools, which would disturb its measurements."""

    @wraps(tool)
    def call(**arguments: Any) -> Any:
        with alone:
            try:
                return tool(**arguments)
            except OnnxoptError as error:
                raise refusal(str(error)) from error

    return call


def serve(root: Path, *, allow_write: bool = False) -> None:
    """Answer one client over standard input and output until it closes them; raises like `server_of`."""
    server = server_of(root, allow_write=allow_write)
    with _output_kept_clean():
        server.run(transport="stdio")


@contextmanager
def _output_kept_clean() -> Iterator[None]:
    """Send the output of native code and child processes to stderr: stdout is the protocol's alone."""
    sys.stdout.flush()
    protocol = os.dup(1)
    before = sys.stdout
    os.dup2(2, 1)
    try:
        with os.fdopen(protocol, "w", encoding="utf-8", closefd=False) as sys.stdout:
            yield
    finally:
        sys.stdout = before
        os.dup2(protocol, 1)
        os.close(protocol)
