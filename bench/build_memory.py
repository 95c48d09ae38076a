"""Peak memory of building one candidate, beside the size of the model.

    python bench/build_memory.py [--model bert-base] [--candidate dynamic] [--tree FOLDER]

Makes the model with random weights (see time_limit.py) and builds the candidate on four samples in a process of its
own, with the package of the checkout `--tree`.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from time_limit import MADE, samples_of

from onnxopt import model_file
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.search.candidates import first_candidates
from onnxopt.target import target_of


def built(model: Path, data: Path, candidate: str) -> int:
    """Build a candidate here, and return the peak of this process in bytes."""
    loaded = model_file.load(model)
    samples = open_samples(data, model_file.signature_of(loaded)).take(4)
    passes = next(c.passes for c in first_candidates() if c.name == candidate)
    Pipeline(passes).run(loaded, Context(target_of("auto"), samples))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*MADE], default="bert-base")
    parser.add_argument("--candidate", default="dynamic")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--files", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.files:
        print(built(*asked.files, asked.candidate))
        return
    with tempfile.TemporaryDirectory(prefix="onnxopt-memory-") as name:
        model = MADE[asked.model](Path(name) / f"{asked.model}.onnx")
        data = samples_of(model, Path(name) / "data.npz")
        command = [sys.executable, __file__, "--candidate", asked.candidate, "--files", str(model), str(data)]
        env = {**os.environ, "PYTHONPATH": str(asked.tree.resolve())}
        peak = int(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.split()[-1])
        size = model.stat().st_size
    print(f"{asked.model}, {size / 1e6:.0f} MB: {asked.candidate} took {peak / 1e6:.0f} MB, {peak / size:.1f} times it")


if __name__ == "__main__":
    main()
