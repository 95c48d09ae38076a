"""Memory and time to the first result of a model in a fresh process."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from onnxopt.child import child_environment
from onnxopt.measure.runtime.apart import task_folder
from onnxopt.measure.runtime.session import Loadable, Runtime
from onnxopt.samples import Feeds

TIMEOUT_S = 300


@dataclass(frozen=True)
class Footprint:
    """Growth of a fresh process by a model, in bytes; None where the system does not report it.

    Attributes:
        peak_bytes: largest growth of all memory in use.
        private_bytes: growth of memory without a backing file, which counts against a container's limit.
        mapped_bytes: growth of memory backed by files, such as mapped weights; the system can reclaim it.
        cold_start_ms: the time from the start of the process, interpreter and libraries included, to the first result.
        start_ms: the time to load the model and run it once, in that process.
        start_own_ms: processor time of the thread that does it, without that of further threads.
    """

    peak_bytes: int | None
    private_bytes: int | None
    mapped_bytes: int | None
    cold_start_ms: float
    start_ms: float
    start_own_ms: float


def footprint_of(model: Loadable, feeds: Feeds, runtime: Runtime) -> Footprint | None:
    """Load and run `model` in a fresh process and return its footprint; None if it cannot be measured.

    Raises:
        UsageError: ONX106 the provider is not available.
    """
    try:
        with task_folder(model, feeds, runtime) as folder:
            begun_ns = time.time_ns()
            done = subprocess.run(
                [sys.executable, "-m", "onnxopt.measure.resources.memory_probe", str(folder)],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=True,
                env=child_environment(),
            )
        found = json.loads(done.stdout)
        cold_start_ms = (found["first_result_ns"] - begun_ns) / 1e6
        start_ms, own_ms = found["start_ns"] / 1e6, found["start_own_ns"] / 1e6
        return Footprint(found["peak"], found["private"], found["mapped"], cold_start_ms, start_ms, own_ms)
    except (OSError, subprocess.SubprocessError, ValueError):  # optional: a measurement must not fail for it
        return None
