"""Peak memory of building one candidate, or of a whole search, beside the size of the model and of the samples.

    python bench/build_memory.py [--model bert-base] [--candidate dynamic] [--tree FOLDER]
    python bench/build_memory.py --model images --search [--limit 120] [--stages]

Makes a model with random weights (see time_limit.py; `images` is one of 5 MB with 420 MB of samples) and runs in a
separate process, with the package of the checkout `--tree`. A process that only imports the package is measured too.
`--stages` prints the peak after each step of the search.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from onnx import TensorProto, helper
from time_limit import MADE, SAMPLES, Net, samples_of

from onnxopt import SearchOptions, model_file, optimize
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.search.candidates import first_candidates
from onnxopt.search.observer import NullObserver
from onnxopt.search.trial import Candidate, Trial
from onnxopt.target import target_of

IMAGES = 700
"""Of 3 x 224 x 224 floats: 421 MB."""


def images(path: Path) -> Path:
    """Write a network of 1.2 million weights, 5 MB, for images of 224 pixels."""
    net, x, width = Net(), "x", 3
    for after in (32, 64, 128, 256, 384):
        weight = net.weight(after, width, 3, 3, scale=(2 / (9 * width)) ** 0.5)
        x = net.add("Relu", net.add("Conv", x, weight, net.weight(after, scale=0.1), strides=[2, 2], pads=[1] * 4))
        width = after
    flat = net.add("Flatten", net.add("GlobalAveragePool", x))
    out = net.add("Gemm", flat, net.weight(width, 10, scale=0.05), net.weight(10, scale=0.01))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 224, 224])
    return net.saved(path, given, out, ["batch", 10])


MODELS = {**MADE, "images": images}


def peak() -> int:
    """Return the peak of this process in bytes.

    Where the system says it: `ru_maxrss` of a child begins with what its parent took.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Stages(NullObserver):
    """Prints the peak after each step."""

    def started(self, candidate: Candidate) -> None:
        """Print it before a candidate."""
        print(f"    {peak() / 1e6:6.0f} MB before {candidate.name}", file=sys.stderr)

    def finished(self, trial: Trial) -> None:
        """Print it behind a candidate."""
        print(f"    {peak() / 1e6:6.0f} MB after {trial.candidate.name}: {trial.verdict.value}", file=sys.stderr)


def built(model: Path, data: Path, candidate: str) -> int:
    """Build a candidate here, and return the peak of this process in bytes."""
    loaded = model_file.load(model)
    samples = open_samples(data, model_file.signature_of(loaded)).take(4)
    passes = next(c.passes for c in first_candidates() if c.name == candidate)
    Pipeline(passes).run(loaded, Context(target_of("auto"), samples))
    return peak()


def searched(model: Path, data: Path, limit_s: float, stages: bool) -> int:
    """Search here, and return the peak of this process in bytes."""
    options = SearchOptions(time_limit_s=limit_s)
    optimize(model, data, options=options, out=data.parent / "run", observer=Stages() if stages else None)
    return peak()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*MODELS], default="bert-base")
    parser.add_argument("--candidate", default="dynamic")
    parser.add_argument("--search", action="store_true", help="measure a whole search")
    parser.add_argument("--limit", type=float, default=120.0, help="of the search, in seconds")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--files", nargs="*", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.files is not None:
        if not asked.files:
            print(peak())
        elif asked.search:
            print(searched(*asked.files, asked.limit, asked.stages))
        else:
            print(built(*asked.files, asked.candidate))
        return
    env = {**os.environ, "PYTHONPATH": str(asked.tree.resolve())}

    def measured(*files: str) -> int:
        words = [*(["--search"] if asked.search else []), *(["--stages"] if asked.stages else [])]
        words += ["--candidate", asked.candidate, "--limit", str(asked.limit), "--files", *files]
        command = [sys.executable, __file__, *words]
        return int(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])

    with tempfile.TemporaryDirectory(prefix="onnxopt-memory-") as name:
        model = MODELS[asked.model](Path(name) / f"{asked.model}.onnx")
        data = samples_of(model, Path(name) / "data.npz", IMAGES if asked.model == "images" else SAMPLES)
        empty, found = measured(), measured(str(model), str(data))
        size, given = model.stat().st_size, data.stat().st_size
    what = "a search" if asked.search else asked.candidate
    print(
        f"{asked.model}, {size / 1e6:.0f} MB, with samples of {given / 1e6:.0f} MB: {what} took {found / 1e6:.0f} MB, "
        f"{found / size:.1f} times the model; less samples and the {empty / 1e6:.0f} MB of an empty process "
        f"{(found - given - empty) / size:.1f} times"
    )


if __name__ == "__main__":
    main()
