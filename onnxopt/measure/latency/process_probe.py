"""Run the model of a task folder for a while and print the time of every run in nanoseconds as JSON.

Run as `python -m onnxopt.measure.latency.process_probe FOLDER SECONDS` by `onnxopt.measure.latency.processes`: it
reports that it is ready and starts when it reads `go`.
"""

import json
import sys
import time
from pathlib import Path

from onnxopt.measure.runtime.probe import load_and_inputs


def main(folder: Path, seconds: float) -> None:
    """Run the task in `folder` for `seconds`."""
    load, feeds = load_and_inputs(folder)
    session = load()
    session.run(None, feeds)
    print("ready", flush=True)
    sys.stdin.readline()
    taken: list[int] = []
    last = time.perf_counter_ns()
    end = last + int(seconds * 1e9)
    while last < end or not taken:
        session.run(None, feeds)
        now = time.perf_counter_ns()
        taken.append(now - last)
        last = now
    print(json.dumps(taken))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
