"""Load and run a model in a separate process and print how much memory that takes.

Run as `python -m onnxopt.measure.resources.memory_probe FOLDER` by `onnxopt.measure.resources.memory`. It has few
imports, so that it starts quickly and the imports do not hide the model's memory.
"""

import importlib
import json
import sys
import time
from pathlib import Path

from onnxopt.measure.runtime.probe import load_and_inputs

RUNS = 3


def main(folder: Path) -> None:
    """Run the task in `folder`; print the growth in bytes as JSON, null where the system does not report it."""
    before, private, mapped = start_bytes(), *resident()
    load, feeds = load_and_inputs(folder)
    start_ns, own_ns = time.perf_counter_ns(), time.thread_time_ns()
    session = load()
    session.run(None, feeds)
    start_ns, own_ns = time.perf_counter_ns() - start_ns, time.thread_time_ns() - own_ns
    first_result_ns = time.time_ns()
    for _ in range(RUNS - 1):
        session.run(None, feeds)
    after, (private_after, mapped_after) = peak_bytes(), resident()
    measured = {
        "peak": _growth(before, after),
        "private": _growth(private, private_after),
        "mapped": _growth(mapped, mapped_after),
        "first_result_ns": first_result_ns,
        "start_ns": start_ns,
        "start_own_ns": own_ns,
    }
    print(json.dumps(measured))


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(after - before, 0)


def resident(rollup: str = "/proc/self/smaps_rollup") -> tuple[int | None, int | None]:
    """Return the bytes in memory without a backing file, and those with one."""
    try:
        lines = [line.split() for line in Path(rollup).read_text().splitlines()]
    except OSError:
        return None, None
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}
    if not {"Rss", "Anonymous"} <= kilobytes.keys():
        return None, None
    private = kilobytes["Anonymous"] + kilobytes.get("Swap", 0)
    return private * 1024, (kilobytes["Rss"] - kilobytes["Anonymous"]) * 1024


def start_bytes() -> int | None:
    """Reset the peak and return the memory in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status_bytes("VmRSS")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int | None:
    """Return the peak of memory in use."""
    try:
        return _status_bytes("VmHWM")
    except OSError:
        pass
    try:
        resource = importlib.import_module("resource")  # not on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {key} in /proc/self/status")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
