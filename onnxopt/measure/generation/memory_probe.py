"""Generate a text in a separate process and print the largest private memory that it had after a step.

Run as `python -m onnxopt.measure.generation.memory_probe FOLDER` by `onnxopt.measure.generation.memory`.
"""

import json
import sys
import time
from pathlib import Path

from onnxopt.measure.generation.walk import DecoderPorts, Walk, generate
from onnxopt.measure.resources.memory_probe import resident
from onnxopt.measure.runtime.probe import load_and_inputs


def main(folder: Path) -> None:
    """Run the task in `folder`; print the growth of private memory in bytes, null where the system does not tell."""
    job = json.loads((folder / "generation.json").read_text())
    before = resident()[0]
    load, feeds = load_and_inputs(folder)
    session = load()
    seen = [resident()[0]]
    prompt = feeds.pop("prompt")
    ports = DecoderPorts(**{**job["ports"], "caches": tuple((own, given) for own, given in job["ports"]["caches"])})
    walk = Walk(lambda fed, names: session.run(list(names), dict(fed)), ports, feeds)
    generate(walk, prompt, job["new"], time.perf_counter_ns, lambda: seen.append(resident()[0]))
    known = [size for size in seen if size is not None]
    print(json.dumps(None if before is None or not known else max(max(known) - before, 0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
