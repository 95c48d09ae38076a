"""The server speaks to the official client over stdio: tools, results, errors."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt.cli.entry import main
from onnxopt.errors import UsageError
from onnxopt.tasks.served.server import server_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copy(ROOT / "models" / "digits_mlp.onnx", tmp_path / "m.onnx")
    x = np.random.default_rng(0).random((40, 64), dtype=np.float32)
    np.savez(tmp_path / "s.npz", x=x, y=np.arange(40) % 10)
    return tmp_path


def spoken(folder: Path, ask: Callable[..., Awaitable[None]]) -> None:
    """Start the command as a client would, and have `ask` talk to it."""
    package = pytest.importorskip("mcp", reason="the official package speaks the protocol")

    async def talk() -> None:
        started = package.StdioServerParameters(
            command=sys.executable,
            args=["-m", "onnxopt", "mcp", "--root", str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        async with package.Client(started) as client:
            await ask(client)

    asyncio.run(asyncio.wait_for(talk(), timeout=120))


@pytest.mark.slow
def test_a_client_reads_and_cannot_write(folder):
    async def ask(client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert sorted(tools) == ["check", "compare", "inspect"]
        assert all(tool.annotations.read_only_hint for tool in tools.values())
        assert tools["inspect"].input_schema["required"] == ["model"]
        found = await client.call_tool("inspect", {"model": "m.onnx"})
        assert found.structured_content["inputs"][0]["name"] == "X"
        outside = await client.call_tool("inspect", {"model": "../m.onnx"})
        assert outside.is_error
        assert "ONX101: the path lies outside the root" in outside.content[0].text
        assert "Traceback" not in outside.content[0].text
        checked = await client.call_tool("check", {"model": "m.onnx"})
        assert checked.structured_content["passed"] is True

    before = sorted(folder.iterdir())
    spoken(folder, ask)
    assert sorted(folder.iterdir()) == before


def test_with_leave_to_write_a_client_repairs(folder):
    onnxopt.quantize(folder / "m.onnx", out=folder / "q.onnx", mode="dynamic")

    async def ask(client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert sorted(tools) == ["check", "compare", "inspect", "optimize", "repair"]
        assert not tools["repair"].annotations.read_only_hint
        given = {"model": "q.onnx", "out": "new.onnx", "seconds": 0.02}
        assert (await client.call_tool("repair", given)).structured_content["target"]
        refused = await client.call_tool("repair", {**given, "out": "m.onnx"})
        assert refused.is_error
        assert "ONX502" in refused.content[0].text

    package = pytest.importorskip("mcp", reason="the official package speaks the protocol")

    async def talk() -> None:
        async with package.Client(server_of(folder, allow_write=True)) as client:
            await ask(client)

    asyncio.run(talk())


def test_what_native_code_prints_is_no_part_of_the_protocol(folder):
    program = (
        "import os, sys\n"
        "from onnxopt.tasks.served import server\n"
        "with server._output_kept_clean():\n"
        "    os.write(1, b'noise')\n"
        "    sys.stdout.write('protocol')\n"
        "os.write(1, b' after')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b"protocol after"
    assert b"noise" in done.stderr


def test_without_the_package_one_line_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(UsageError, match=r"ONX108.*onnxopt\[mcp\]"):
        server_of(folder)
    assert main(["mcp", "--root", str(folder)]) == 2
    assert capsys.readouterr().err.startswith("ONX108")
