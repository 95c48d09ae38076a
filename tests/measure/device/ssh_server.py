"""An SSH server on loopback, for boards that are this machine."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from onnxopt.measure.device.ssh import Board


class Server:
    """An SSH server on loopback in this process, which runs commands as sshd would."""

    def __init__(self, folder: Path) -> None:
        asyncssh = pytest.importorskip("asyncssh")
        self.key, host_key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
        self.identity = folder / "id"
        self.key.write_private_key(str(self.identity))
        self.identity.chmod(0o600)
        (folder / "authorized").write_bytes(self.key.export_public_key())
        self.loop, ready = asyncio.new_event_loop(), threading.Event()

        async def handle(process):
            ran = await asyncio.create_subprocess_shell(
                process.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            out, err = await ran.communicate(await process.stdin.read())
            process.stdout.write(out)
            process.stderr.write(err)
            process.exit(ran.returncode)

        async def start():
            self.server = await asyncssh.listen(
                "127.0.0.1",
                0,
                server_host_keys=[host_key],
                authorized_client_keys=str(folder / "authorized"),
                process_factory=handle,
                encoding=None,
            )
            self.port = self.server.sockets[0].getsockname()[1]
            ready.set()

        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(start(), self.loop)
        assert ready.wait(20)

    def board(self, python: str = sys.executable) -> Board:
        options = (f"IdentityFile={self.identity}", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        return Board("me@127.0.0.1", self.port, python, (*options, "IdentitiesOnly=yes", "LogLevel=ERROR"))

    def stop(self) -> None:
        async def close():
            self.server.close()
            await self.server.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)


@pytest.fixture
def server(tmp_path):
    if subprocess.run(["which", "ssh"], capture_output=True, check=False).returncode:
        pytest.skip("there is no OpenSSH client")
    running = Server(tmp_path)
    yield running
    running.stop()
