"""Commands that serve other programs: worker, mcp."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import Shown
from onnxopt.cli.output import quieten
from onnxopt.errors import ExitCode

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def worker(
    scheduler: Annotated[str, typer.Argument(help="Address such as tcp://10.0.0.1:8786.", show_default=False)],
    *,
    bench: Annotated[
        bool, typer.Option("--bench", help="Allow latency measurements on this machine; run nothing else on it.")
    ] = False,
    tasks: Annotated[
        int,
        typer.Option("--tasks", min=1, help="Number of concurrent tasks, each in its own process; one with --bench."),
    ] = 1,
    name: Annotated[str | None, typer.Option("--name", help="Name of this worker.")] = None,
    tls_ca_file: Annotated[Path | None, typer.Option("--tls-ca-file", help="TLS file, as for Dask.")] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="TLS file, as for Dask.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="TLS file, as for Dask.")] = None,
    shown: Shown,
) -> int:
    """Run a worker of a Dask cluster on this machine. Ctrl-C ends it."""
    quieten(shown)
    from onnxopt.child import child_environment
    from onnxopt.search.workers.cluster import require_connection, worker_command

    given = (("--tls-ca-file", tls_ca_file), ("--tls-cert", tls_cert), ("--tls-key", tls_key))
    tls = [word for option, path in given if path is not None for word in (option, str(path))]
    require_connection(scheduler, [str(path) for _, path in given if path is not None])
    command = worker_command(scheduler, bench=bench, tasks=tasks, name=name, tls=tls)
    limits = dict.fromkeys(THREAD_VARIABLES, "1")
    try:
        return subprocess.run(command, env=child_environment(**limits), check=False).returncode
    except KeyboardInterrupt:
        return 0


def mcp(
    *,
    root: Annotated[
        Path, typer.Option("--root", help="Folder that every path must lie in; links that leave it are refused.")
    ] = Path(),
    allow_write: Annotated[
        bool, typer.Option("--allow-write", help="Also offer optimize and repair, which write new files.")
    ] = False,
) -> int:
    """Serve commands by the Model Context Protocol (stdio)."""
    from onnxopt.tasks.served.server import serve

    serve(root, allow_write=allow_write)
    return ExitCode.OK
