"""Run models in turn, each for a while, and print the time of every run in nanoseconds as JSON.

Run as `python -m onnxopt.measure.runtime.turns_probe` by `onnxopt.measure.latency.processes`. A line with a task folder
loads its model in a new session and runs it once, which `ready` answers; a line with seconds starts the timed runs. The
process ends where its input ends: one start of Python serves many models.
"""

import json
import sys
import time
from pathlib import Path

from onnxopt.measure.runtime.probe import load_and_inputs


def main() -> None:
    """Answer the lines of standard input."""
    for line in sys.stdin:
        load, feeds = load_and_inputs(Path(line.rstrip("\n")))
        session = load()
        session.run(None, feeds)
        print("ready", flush=True)
        seconds = float(sys.stdin.readline())
        taken: list[int] = []
        last = time.perf_counter_ns()
        end = last + int(seconds * 1e9)
        while last < end or not taken:
            session.run(None, feeds)
            now = time.perf_counter_ns()
            taken.append(now - last)
            last = now
        del session, load
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
