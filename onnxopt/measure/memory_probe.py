"""Load and run a model in a process of its own and print how much that process grew.

Run as `python -m onnxopt.measure.memory_probe FOLDER` by `onnxopt.measure.memory`. It imports as little as it can, so
that it starts quickly and the imports do not hide the model.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

RUNS = 3


def main(folder: Path) -> None:
    """Carry out the task in `folder`; print the growth in bytes as JSON, null where the system cannot tell."""
    task = json.loads((folder / "task.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, task["level"])
    options.log_severity_level = 4
    for key, value in task["options"]:
        options.add_session_config_entry(key, value)
    with np.load(folder / "feeds.npz") as arrays:
        feeds = {name: arrays[f"arr_{index}"] for index, name in enumerate(task["names"])}
    before = start_bytes()
    session = onnxruntime.InferenceSession(task["model"], options, providers=[task["provider"]], enable_fallback=0)
    for _ in range(RUNS):
        session.run(None, feeds)
    after = peak_bytes()
    print(json.dumps(None if before is None or after is None else max(after - before, 0)))


def start_bytes() -> int | None:
    """Forget the peak so far and return the memory in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status_bytes("VmRSS")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int | None:
    """Return the largest amount of memory that was in use."""
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
