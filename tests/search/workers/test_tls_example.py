"""The commands for an encrypted cluster in docs/cluster.md, run as they stand there, but on this machine."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import NativeError
from onnxopt.search.workers.cluster import Cluster, security_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
FILES = ("ca.pem", "cert.pem", "key.pem")
PATIENCE_S = 60


def lines_with(words: str) -> list[str]:
    """Return the block of the page with a command that begins so."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/cluster.md").read_text(), re.M | re.S)
    return next(block for block in blocks if block.startswith(words)).splitlines()


def make_certificates(folder: Path) -> tuple[str, str, str]:
    folder.mkdir(exist_ok=True)
    for line in lines_with("openssl"):
        subprocess.run(shlex.split(line), cwd=folder, check=True, capture_output=True)
    authority, certificate, key = (str(folder / name) for name in FILES)
    return authority, certificate, key


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(words: list[str], folder: Path) -> Iterator[None]:
    """Run a command and everything that it starts until the end of the context."""
    log = (folder / "log.txt").open("ab")
    process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < until, "nobody answers"
        time.sleep(0.2)


def listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long
def test_the_example_searches_and_a_certificate_of_another_authority_is_refused(tmp_path):
    pytest.importorskip("distributed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    files, port = make_certificates(tmp_path), free_port()
    address = f"tls://127.0.0.1:{port}"
    shutil.copy(ROOT / "models/digits_resnet.onnx", tmp_path / "model.onnx")
    luck = np.random.default_rng(0)
    np.savez(tmp_path / "samples.npz", image=luck.random((32, 1, 8, 8), np.float32))
    scheduler, worker, optimize = (line.replace("tls://desk:8786", address) for line in lines_with("dask scheduler"))
    dask = [str(Path(sys.executable).with_name("dask")), *shlex.split(scheduler)[1:]]
    onnxopt = [sys.executable, "-m", "onnxopt"]

    with ExitStack() as stack:
        here = ["--host", "tls://127.0.0.1", "--port", str(port), "--no-dashboard"]
        stack.enter_context(running([*dask, *here], tmp_path))
        wait_until(lambda: listens(port))
        stack.enter_context(running([*onnxopt, *shlex.split(worker)[1:]], tmp_path))
        with Cluster(address, security=security_of(files)) as cluster:
            wait_until(lambda: bool(cluster.client.scheduler_info()["workers"]))
        short = ["--time-limit", "40", "--latency-seconds", "0.05", "--out", "run"]
        done = subprocess.run(
            [*onnxopt, *shlex.split(optimize)[1:], *short], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        foreign = security_of(make_certificates(tmp_path / "others"))
        with pytest.raises(NativeError, match="ONX407"), Cluster(address, timeout_s=5, security=foreign):
            pass

    assert done.returncode in (0, 1), done.stderr + (tmp_path / "log.txt").read_text()[-3000:]
    assert (tmp_path / "run" / "run.json").exists()
