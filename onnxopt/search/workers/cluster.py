"""Trials on many machines, distributed by a Dask scheduler; some workers offer to time models.

Any worker builds and scores. Latency is measured only on workers that offer the resource of that kind of machine,
one trial at a time per worker. A lost worker's tasks are run again elsewhere, by Dask itself.
"""

import hashlib
import platform
import socket
import sys
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from onnxopt.errors import NativeError, UsageError, first_line
from onnxopt.extras import require

if TYPE_CHECKING:
    from distributed.security import Security

BENCH = "bench"
PATIENCE_S = 600.0
"""Seconds in which a lost worker that times models may come back."""
_LOOK_S = 5.0
"""Seconds between two looks at the workers."""


def bench_resource(machine: str | None = None) -> str:
    """Return the resource of workers that may time models on this kind of machine, such as `bench-arm64`."""
    name = (machine or platform.machine()).lower()
    return f"{BENCH}-{ {'aarch64': 'arm64', 'amd64': 'x86_64'}.get(name, name) }"


@dataclass
class Cluster:
    """A connection to a Dask scheduler; a context manager.

    The scheduler gives the tasks of a lost worker to others, up to its `distributed.scheduler.allowed-failures` times;
    lost results are computed again.

    Attributes:
        anywhere: executor for tasks that any worker may run.
        bench: executor for tasks that time models, on workers that offer `resource`.
    """

    address: str
    resource: str = field(default_factory=bench_resource)
    security: "Security | None" = None
    timeout_s: float = 20.0

    def __enter__(self) -> "Cluster":
        """Connect.

        Raises:
            UsageError: ONX101 the address is invalid, ONX108 `distributed` is not installed.
            NativeError: ONX407 the scheduler cannot be reached.
        """
        client_class = _distributed().Client
        require_scheduler(self.address, self.timeout_s)
        try:
            self.client: Any = client_class(
                self.address, timeout=self.timeout_s, security=self.security, set_as_default=False
            )
        except (OSError, TimeoutError, ValueError, TypeError) as error:  # TypeError: tls:// without its files
            raise NativeError(
                "ONX407",
                "the cluster's scheduler cannot be reached",
                where=self.address,
                why=first_line(error),
                hint="Start one with: dask scheduler; tls:// needs its three files.",
            ) from error
        # It drops copies that no task is waiting for: models would be sent repeatedly.
        self.client.amm.stop()
        self.anywhere: Executor = self.client.get_executor(pure=False)
        self.bench: Executor = self.client.get_executor(pure=False, resources={self.resource: 1})
        self._looked, self._missing_since = time.monotonic(), inf
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def require_bench(self) -> None:
        """Require a worker that may time models, instead of waiting for one without end.

        Raises:
            UsageError: ONX117 no worker offers the resource.
        """
        workers = self._workers()
        if not _offer(workers, self.resource):
            raise UsageError(
                "ONX117",
                "no worker of the cluster times models",
                where=self.resource,
                why=f"{len(workers)} workers",
                hint=f"Start one on the target: onnxopt worker {self.address} --bench",
            )

    def check_bench(self) -> None:
        """Check, at times, that a worker that may time models is there or comes back soon.

        Raises:
            NativeError: ONX407 none has been there for `PATIENCE_S`.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        try:
            there = _offer(self._workers(), self.resource)
        except OSError:
            return  # of a lost connection the tasks tell
        self._missing_since = inf if there else min(self._missing_since, now)
        if now - self._missing_since > PATIENCE_S:
            raise NativeError(
                "ONX407",
                "the workers of the cluster that time models were lost",
                where=self.resource,
                why=f"none came back in {PATIENCE_S:g} s",
                hint=f"Start one on the target (onnxopt worker {self.address} --bench), and go on with --resume.",
            )

    def _workers(self) -> Collection[Mapping[str, Any]]:
        return list(self.client.scheduler_info(n_workers=-1)["workers"].values())

    def share(self, data: bytes) -> Any:
        """Return a handle of `data` for arguments: the data is sent at most once to each worker that needs it.

        Equal data has the same handle.
        """
        # Scattered data would be lost with its worker; the result of a task is computed again.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            return self.client.submit(_same, data, key=f"onnxopt-{hashlib.sha256(data).hexdigest()}")


def _offer(workers: Collection[Mapping[str, Any]], resource: str) -> bool:
    return any(worker.get("resources", {}).get(resource) for worker in workers)


def _same(data: bytes) -> bytes:
    return data


def security_of(tls: tuple[str, str, str] | None) -> "Security | None":
    """Return Dask's own description of an encrypted connection.

    Args:
        tls: files of the certificate authority, the certificate and the key.

    Raises:
        UsageError: ONX108 `distributed` is not installed.
    """
    if tls is None:
        return None
    _distributed()
    from distributed.security import Security

    authority, certificate, key = tls
    return Security(tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def require_scheduler(address: str, timeout_s: float = 10.0) -> None:
    """Require a scheduler at an address, before a worker tries for minutes to connect.

    Raises:
        UsageError: ONX101 the address is invalid.
        NativeError: ONX407 no scheduler answers there.
    """
    try:
        parts = urlsplit(address)
        place = (parts.hostname or "", parts.port or 0)
    except ValueError:
        place = ("", 0)
    if not all(place):
        raise UsageError(
            "ONX101", "the scheduler's address cannot be read", where=address, hint="Write tcp://host:8786."
        )
    try:
        socket.create_connection(place, timeout_s).close()
    except OSError as error:
        raise NativeError(
            "ONX407",
            "the cluster's scheduler cannot be reached",
            where=address,
            why=first_line(error),
            hint="Start one with: dask scheduler",
        ) from error


def require_connection(address: str, tls: Sequence[str], timeout_s: float = 10.0) -> None:
    """Connect to a scheduler as a worker will, whose own error would be a traceback.

    Args:
        address: address of the scheduler.
        tls: files of the certificate authority, the certificate and the key, or none; some of them are left to Dask.
        timeout_s: patience.

    Raises:
        UsageError: ONX101 the address is invalid, ONX108 `distributed` is not installed.
        NativeError: ONX407 no scheduler answers there, or it refuses the connection.
    """
    if len(tls) not in (0, 3):
        require_scheduler(address, timeout_s)
        return
    security = security_of((tls[0], tls[1], tls[2])) if tls else None
    with Cluster(address, security=security, timeout_s=timeout_s):
        pass


def worker_command(address: str, *, bench: bool, tasks: int, name: str | None, tls: Sequence[str]) -> list[str]:
    """Return Dask's command for a worker, with its resources and a process per task.

    Args:
        address: address of the scheduler.
        bench: whether models may be timed on this machine.
        tasks: number of concurrent tasks; always one if models are timed, which must not disturb each other.
        name: name of the worker; None lets Dask choose.
        tls: further words for Dask's TLS options.
    """
    _distributed()
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard", "--nthreads", "1"]
    command += ["--nworkers", "1" if bench else str(tasks)]
    if bench:
        command += ["--resources", f"{bench_resource()}=1"]
    if name:
        command += ["--name", name]
    return [*command, *tls]


def _distributed() -> Any:
    return require("distributed", "dask", "a cluster")
