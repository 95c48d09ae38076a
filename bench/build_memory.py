"""Peak memory of whole searches and of building one candidate, beside the size of the model and of the samples.

    python bench/build_memory.py [resnet50 bert-base images] [--tree before=../before now=.] [--limit 240 bert-base=480]

Makes models with random weights (see time_limit.py; `images` is one of 5 MB with 420 MB of samples). For each model and
checkout it runs, one after the other: the command `optimize` with a metric that takes every answer for right, so that
candidates win and their mixes follow; and a process that builds one candidate. `peak` is all that was resident, with
the pages of mapped files, which the system takes back when it needs them; `private` is without those, read 20 times a
second. A search should take no more beyond an empty process than four times the model and the samples once (`share` of
that). Beside them: a process that only imports the package (`empty`), and one in which ONNX Runtime alone loads the
file and runs one sample (`runtime`). Saved under `bench/results/`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from anytime import ALWAYS_RIGHT
from onnx import TensorProto, helper
from time_limit import MADE, SAMPLES, Net, samples_of

from onnxopt.measure.runtime.environment import environment

RESULTS = Path(__file__).parent / "results"
IMAGES = 700
"""Of 3 x 224 x 224 floats: 421 MB."""
CANDIDATES = {"resnet50": "static-minmax", "bert-base": "dynamic", "images": "static-minmax"}
"""The candidate that is built alone."""
MOST = 4
"""Times the model that a search may take beside the samples."""
LIMIT_S = 240.0
_LOOK_S = 0.05

BUILD = """
import sys
from onnxopt import model_file
from onnxopt.cli.entry import one_heap
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.search.candidates import first_candidates
from onnxopt.target import target_of

one_heap()
loaded = model_file.load(sys.argv[1])
samples = open_samples(sys.argv[2], model_file.signature_of(loaded)).take(16)
passes = next(c.passes for c in first_candidates() if c.name == sys.argv[3])
Pipeline(passes).run(loaded, Context(target_of("auto"), samples))
"""
LOAD = """
import sys
import numpy, onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
with numpy.load(sys.argv[2], mmap_mode="r") as data:
    session.run(None, {name: data[name][:1] for name in data.files})
"""
EMPTY = "import onnxopt.api, onnxopt.run.optimize, onnxruntime"


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


def watched(command: Sequence[str], tree: Path, journal: Path | None = None) -> dict[str, Any]:
    """Run a command with the package of a checkout, and return its peaks in MB, its time, and what ran at the peak."""
    env = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    begun = time.perf_counter()
    found: dict[str, Any] = {"peak_mb": 0.0, "private_mb": 0.0, "during": ""}
    with tempfile.TemporaryDirectory(prefix="onnxopt-memory-") as cache, tempfile.TemporaryFile() as said:
        env["XDG_CACHE_HOME"] = cache
        # Python looks for packages in the current folder first.
        process = subprocess.Popen(
            [sys.executable, *command], cwd=tree, env=env, stdout=subprocess.DEVNULL, stderr=said
        )
        while process.poll() is None:
            now = memory_of(process.pid)
            found["peak_mb"] = max(found["peak_mb"], now.get("VmHWM", 0.0))
            if now.get("RssAnon", 0.0) > found["private_mb"]:
                found |= {"private_mb": now["RssAnon"], "during": now_running(journal) if journal else ""}
            time.sleep(_LOOK_S)
        said.seek(0)
        errors = said.read().decode(errors="replace")
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors[-500:]}")
    return {**found, "seconds": round(time.perf_counter() - begun, 1)}


def now_running(journal: Path) -> str:
    """Return the last candidate that a search began, and whether it has ended."""
    try:
        events = [json.loads(line) for line in journal.read_text().splitlines()]
    except (OSError, ValueError):  # none yet, or a line that is being written
        return "baseline"
    last = next((event for event in reversed(events) if event["kind"] in ("started", "trial")), None)
    if last is None:
        return "baseline"
    return ("after " if last["kind"] == "trial" else "") + str(last["candidate"]).partition(":")[0]


def memory_of(pid: int) -> dict[str, float]:
    """Return the memory of a process in MB by the names of `/proc/PID/status`; nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.startswith(("VmHWM", "RssAnon")))
    return {field[0].rstrip(":"): int(field[1]) * 1024 / 1e6 for field in fields}


def searched(model: Path, data: Path, tree: Path, limit_s: float) -> dict[str, Any]:
    """Run a whole search."""
    with tempfile.TemporaryDirectory(prefix="onnxopt-memory-", dir=model.parent) as name:
        folder = Path(name)
        with np.load(data, mmap_mode="r") as samples:
            np.save(folder / "labels.npy", np.zeros(len(samples[samples.files[0]]), np.int64))
        (folder / "metric.py").write_text(ALWAYS_RIGHT)
        words = ["--labels", str(folder / "labels.npy"), "--metric", f"{folder / 'metric.py'}:always_right"]
        words += ["--time-limit", f"{limit_s:g}", "--out", str(folder / "run")]
        command = ["-m", "onnxopt", "optimize", str(model), "--data", str(data), *words]
        found = watched(command, tree, folder / "run" / "journal.jsonl")
        record = json.loads((folder / "run" / "run.json").read_text())
    trials = [[trial["name"], trial["verdict"]] for trial in record["trials"]]
    return {**found, "winner": record.get("winner"), "trials": trials}


def measured(kind: str, trees: Mapping[str, Path], limit_s: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of one model."""
    first = True
    with tempfile.TemporaryDirectory(prefix="onnxopt-memory-") as name:
        model = MODELS[kind](Path(name) / f"{kind}.onnx")
        data = samples_of(model, Path(name) / "data.npz", IMAGES if kind == "images" else SAMPLES)
        sizes = {"model_mb": model.stat().st_size / 1e6, "samples_mb": data.stat().st_size / 1e6}
        files = [str(model), str(data)]
        for tree, place in trees.items():
            # The same for all checkouts.
            alone = {} if not first else {"empty": ["-c", EMPTY], "runtime": ["-c", LOAD, *files]}
            runs = {
                **{what: partial(watched, command, place) for what, command in alone.items()},
                CANDIDATES[kind]: partial(watched, ["-c", BUILD, *files, CANDIDATES[kind]], place),
            }
            if limit_s:
                runs["search"] = partial(searched, model, data, place, limit_s)
            for what, run in runs.items():
                yield {"model": kind, "tree": tree, "what": what, **sizes, **run()}
            first = False


def line_of(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a row of the table."""
    empty = next(r["peak_mb"] for r in rows if r["what"] == "empty" and r["model"] == row["model"])
    own = row["peak_mb"] - empty
    share = own / (MOST * row["model_mb"] + row["samples_mb"])
    tried = len(row["trials"]) if "trials" in row else ""
    return (
        f"| {row['model']} | {row['tree']} | {row['what']} | {row['peak_mb']:.0f} MB | {row['private_mb']:.0f} MB "
        f"| {own / row['model_mb']:.1f} | {share:.2f} | {tried} | {row['seconds']:.0f} s | {row['during']} |"
    )


def limits_of(texts: Sequence[str]) -> dict[str, float]:
    """Return the seconds for each model: `300` is that of all, `bert-base=480` that of one."""
    found = dict.fromkeys(MODELS, LIMIT_S)
    for text in texts:
        name, _, seconds = text.rpartition("=")
        found |= dict.fromkeys([name] if name else MODELS, float(seconds))
    return found


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--tree", nargs="+", default=["now=."], metavar="NAME=FOLDER")
    parser.add_argument(
        "--limit", nargs="+", default=[], metavar="[MODEL=]SECONDS", help="of a search; 0 for none, 240 by default"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-memory.json")
    asked = parser.parse_args()
    trees = {name: Path(folder) for name, _, folder in (one.partition("=") for one in asked.tree)}
    limits = limits_of(asked.limit)
    print("| model | checkout | process | peak | private | beyond empty / model | share | tried | time | at the peak |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|---|", flush=True)
    rows: list[dict[str, Any]] = []
    for kind in asked.models or MODELS:
        for row in measured(kind, trees, limits[kind]):
            rows.append(row)
            print(line_of(row, rows), flush=True)
            record = {"environment": environment(), "limit_s": limits, "rows": rows}
            asked.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"saved {asked.out}")


if __name__ == "__main__":
    main()
