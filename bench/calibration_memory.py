"""Peak memory and time of calibration against the number of samples: ours beside onnxruntime's own calibrators.

    python bench/calibration_memory.py [--samples 8 32 128 512] [--repeats 3]

Every measurement runs in a separate process, on the same convolutional network and the same samples, drawn from a
seed one at a time. Memory is what the process grew by at its peak, from after the imports. Prints one table and saves
it as JSON under `bench/results/`. Exit code 1 when ours grows with the samples or takes over 1.5 times as long as
onnxruntime's calibrator of the same kind. The methods that need histograms sweep over the samples twice.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxopt import model_file
from onnxopt.measure.runtime.environment import environment
from onnxopt.quantization.calibration import calibrators, ranges
from onnxopt.samples import Samples

RESULTS = Path(__file__).parent / "results"
SIDE, WIDTH, DEPTH = 56, 24, 6
FLAT = 1.15
"""Most that ours may need at the largest number of samples, of what it needs at the smallest."""
SLOWEST = 1.5
"""Longest that ours may take, of the time of onnxruntime's calibrator of the same kind."""
STOCK = {"ort-minmax": "MinMax", "ort-percentile": "Percentile", "ort-entropy": "Entropy"}
OURS = ("minmax", "percentile", "entropy", "mse")


def network() -> onnx.ModelProto:
    """Return a chain of convolutions with ReLU; its activations take 3.4 MB per sample."""
    rng = np.random.default_rng(0)
    nodes, weights, x, channels = [], [], "x", 3
    for k in range(DEPTH):
        scale = np.sqrt(2 / (9 * channels))
        w = (scale * rng.standard_normal((WIDTH, channels, 3, 3))).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{k}"))
        nodes.append(helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], f"conv{k}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"], f"relu{k}"))
        x, channels = f"r{k}", WIDTH
    shapes = ("x", ["n", 3, SIDE, SIDE]), (x, ["n", WIDTH, SIDE, SIDE])
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in shapes)
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Drawn:
    """Images made one at a time from their index."""

    name, labels, stacks = "drawn", None, True

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {"x": np.random.default_rng(index).standard_normal((3, SIDE, SIDE), dtype=np.float32)}


def calibrate_here(path: Path, count: int, method: str) -> None:
    model = model_file.load(path)
    names = ["x", *(v.name or "" for node in model.graph for v in node.outputs)]
    samples = Samples.of(Drawn(count))
    if method in calibrators.FROM_EXTREMES:
        found = ranges.extremes(model, names, samples)
        covered = {n: calibrators.FROM_EXTREMES[method](e) for n, e in found.items()}
    else:
        counted = ranges.histograms(model, samples, ranges.extremes(model, names, samples))
        covered = {n: calibrators.METHODS[method](h) for n, h in counted.items()}
    if len(covered) != 1 + 2 * DEPTH:
        raise RuntimeError(f"{len(covered)} ranges")


def calibrate_stock(path: Path, count: int, method: str) -> None:
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Any] = iter(Samples.of(Drawn(count)))

        def get_next(self) -> Any:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            path, None, str(Path(folder) / "a.onnx"), calibrate_method=CalibrationMethod[STOCK[method]]
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


def one(path: Path, method: str, count: int) -> None:
    """Measure in this process; print peak growth in MB and seconds as JSON on the last line."""
    import onnxruntime.quantization.calibrate  # noqa: F401  imported before memory is read, for both

    run = calibrate_stock if method in STOCK else calibrate_here
    # One sample first: what is loaded on first use belongs to no method.
    run(path, 2, method)
    gc.collect()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start = time.perf_counter()
    run(path, count, method)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    print(json.dumps({"peak_mb": peak - before, "seconds": seconds}))


def measured(path: Path, method: str, count: int, repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(path), method, str(count)]
    runs = []
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    # The least of the repeats: on a machine that others use, what is added is theirs.
    least = {key: min(r[key] for r in runs) for key in runs[0]}
    return {"method": method, "samples": count, **{k: round(v, 2) for k, v in least.items()}, "repeats": repeats}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 32, 128, 512])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-calibration-memory.json")
    options = parser.parse_args()
    if options.one:
        one(Path(options.one[0]), options.one[1], int(options.one[2]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.onnx"
        onnx.save(network(), path)
        rows = [
            measured(path, method, count, options.repeats)
            for count in options.samples
            # By turns, so that what disturbs one disturbs all.
            for method in (*OURS, *STOCK)
        ]
    found = {(r["method"], r["samples"]): r for r in rows}
    few, many = min(options.samples), max(options.samples)
    print("| calibrator | " + " | ".join(f"{n} samples: MB / s" for n in options.samples) + " |")
    print("|" + "---|" * (len(options.samples) + 1))
    for method in (*OURS, *STOCK):
        cells = [found[method, n] for n in options.samples]
        print(f"| {method} | " + " | ".join(f"{c['peak_mb']:.0f} / {c['seconds']:.1f}" for c in cells) + " |")
    growth = {m: found[m, many]["peak_mb"] / max(found[m, few]["peak_mb"], 1.0) for m in (*OURS, *STOCK)}
    slowness = {m: found[m, many]["seconds"] / found["ort-minmax", many]["seconds"] for m in OURS}
    grows = [m for m in OURS if growth[m] > FLAT and found[m, many]["peak_mb"] - found[m, few]["peak_mb"] > 10]
    same_kind = {m: found[m, many]["seconds"] / found[f"ort-{m}", many]["seconds"] for m in OURS if f"ort-{m}" in STOCK}
    slow = [m for m, times in same_kind.items() if times > SLOWEST]
    summary = {
        "growth": growth,
        "time_against_same_kind": same_kind,
        "time_against_ort_minmax": slowness,
        "grows": grows,
        "slow": slow,
    }
    print(json.dumps(summary, indent=1))
    options.out.parent.mkdir(exist_ok=True)
    record = {"environment": environment(), "activations_mb_per_sample": activations_mb(), "summary": summary}
    options.out.write_text(json.dumps({**record, "rows": rows}, indent=1, default=str) + "\n")
    print(f"saved {options.out}")
    return 1 if grows or slow else 0


def activations_mb() -> float:
    return round(4 * SIDE * SIDE * (3 + 2 * DEPTH * WIDTH) / 1e6, 2)


if __name__ == "__main__":
    raise SystemExit(main())
