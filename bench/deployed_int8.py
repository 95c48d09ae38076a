"""Accuracy and CPU speed of INT8 files of deployed detectors and recognizers, by every quantizer.

    python bench/deployed_int8.py [NAME ...] [--venv PACKAGE=PYTHON ...] [--fresh 150] [--seconds 6]
    python bench/deployed_int8.py --table

The models are those of `bench/deployed.py`. Every quantizer gets the same samples without labels and is called as its
documentation shows (`peers_quantize.py`); `onnxopt` is `quantize --mode auto` with its built-in recognition of tasks.
Files are judged on fresh samples by separate code, average precision by pycocotools, against labels where the bench
draws them (`deployed_truth.py`) and else against the predictions of the float file. All files of a model are timed in
one interleaved run, as called. Beside them are files whose place is known (`controls.py`). Nothing is pruned or
trained. The record is written after each model; models that are in it are left out.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx
from controls import CONTROLS, controls, stored
from deployed import command, figures, read, written
from deployed_cases import Case, cases, model_of
from deployed_truth import TRUTHS, labelled
from onnx import TensorProto
from optimize_table import CLASSES, of_class
from pack import ROOT
from peers_quantize import MAKERS
from quantize import CALIBRATION, OURS, SLOWER, made, unrunnable, write_feeds

from onnxopt import model_file
from onnxopt.errors import first_line
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime

HERE = Path(__file__).parent
SAMPLES = 128
TIMED = 16
LIMIT_S = 900


def measure(case: Case, pythons: Mapping[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Make, judge and time all files of one model."""
    model, folder = model_of(case, options.cache, options.pack), options.work / case.name
    if not (folder / CALIBRATION).exists():
        write_feeds(folder / CALIBRATION, map(case.make, range(SAMPLES)))
    costs = {"onnxopt": ours(case, model, folder)}
    costs |= {maker: made(model, maker, folder, python) for maker, python in pythons.items()}
    files = {"fp32": model} | {m: folder / f"{m}.onnx" for m, facts in costs.items() if "failure" not in facts}
    files |= controls(model, folder)
    inputs = [case.make(index) for index in range(SAMPLES, SAMPLES + TIMED)]
    for name in list(files):
        try:
            measure_latency({name: files[name]}, inputs[:1], Runtime(), seconds=0.01, min_rounds=1, epochs=1)
        except Exception as error:  # a peer's file may be wrong in any way
            costs[name] = {"failure": unrunnable(error)}
            del files[name]
    judged, unread = judge(case, files, SAMPLES + TIMED, options.fresh)
    for name, why in unread.items():
        costs[name] = {"failure": why}
        del files[name]
    timed = measure_latency(files, inputs, Runtime(), seconds=options.seconds)
    rows = dict[str, Any]()
    for name, path in files.items():
        latency, speed = timed[name], timed[name].speedup
        rows[name] = {"figures": judged[name], "size_bytes": model_file.size_of(path), **costs.get(name, {})}
        rows[name] |= {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_bound_ms, "load_ms": latency.load_ms}
        rows[name]["speedup"] = speed and {"low": speed.low, "value": speed.value, "high": speed.high}
        rows[name]["quantized"] = quantized(path)
    return {
        "model": case.name,
        "package": case.package,
        "labels": case.name in TRUTHS,
        "n": options.fresh,
        "rows": rows,
        "failures": {name: facts["failure"] for name, facts in costs.items() if "failure" in facts},
        "load": round(os.getloadavg()[0], 1),
    }


def ours(case: Case, model: Path, folder: Path) -> dict[str, Any]:
    """Quantize with the command that a user types; return the seconds it takes, or the failure."""
    out, facts = folder / "onnxopt.onnx", folder / "onnxopt.json"
    if facts.exists():
        return dict(json.loads(facts.read_text()))
    data = written(case, SAMPLES, folder / "samples")
    start = time.perf_counter()
    done = command("quantize", model, "--data", data, "--mode", "auto", "-o", out, "--overwrite", limit_s=LIMIT_S)
    found: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 1)}
    if not out.exists():
        found = {"failure": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160]}
    facts.write_text(json.dumps(found))
    return found


def judge(
    case: Case, files: Mapping[str, Path], first: int, count: int
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the figures of every file on `count` samples from number `first` on, and the failures of the others.

    The first figure decides.
    """
    model = files["fp32"]
    known = labelled(case, model)
    said, failures = {"fp32": read(known, model, first, count)}, dict[str, str]()
    for name in files.keys() - said.keys():
        try:
            said[name] = read(known, files[name], first, count)
        except Exception as error:  # a peer's file may give other outputs
            failures[name] = f"its outputs cannot be read: {first_line(error)[:120]}"
    truth = said["fp32"]
    if case.name in TRUTHS:
        truth = [TRUTHS[case.name].truth(index, model) for index in range(first, first + count)]
    return {name: known.reading.agree(truth, said[name]) for name in files if name in said}, failures


def quantized(path: Path) -> bool:
    """Return whether a file stores weights as integers of eight bits or fewer, or quantizes any value."""
    model, small = onnx.load(path), (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
    quantizes = any("Quantize" in node.op_type for node in model.graph.node)
    return quantizes or any(w.data_type in small and len(w.dims) > 1 for w in stored(model))


def share(row: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    """Return the deciding figure relative to that of the float file."""
    one, other = (next(iter(r["figures"].values())) for r in (row, base))
    return float(one / other) if other else float("nan")


def table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the record as Markdown, one row per file."""
    heads = ("model", "judged by", "file", "figures", "class", "speed-up", "p99", "size", "made in")
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|---|---|" + "--:|" * 4]
    for model in models:
        base = model["rows"]["fp32"]
        for name, row in model["rows"].items():
            first = name == "fp32"
            cells = [model["model"] if first else "", ("labels" if model["labels"] else "FP32") if first else ""]
            cells += [name if first or row["quantized"] or name in CONTROLS else f"{name} (float)"]
            cells += [figures(row["figures"]), "" if first else of_class(share(row, base)), _speed(row, first)]
            cells += [f"{row['p99_ms']:.2f} ms" if row["p99_ms"] else "-"]
            cells += [f"{base['size_bytes'] / row['size_bytes']:.1f}x"]
            cells += [f"{row['seconds']:.1f} s" if "seconds" in row else "-"]
            lines.append("| " + " | ".join(cells) + " |")
        lines += [f"| | | {name} | fails |" + " |" * 5 for name in model["failures"]]
    return "\n".join(lines)


def _speed(row: Mapping[str, Any], first: bool) -> str:
    speed = row["speedup"]
    if not speed:
        return "1" if first else "unsure"
    return f"{speed['value']:.2f}x [{speed['low']:.2f}, {speed['high']:.2f}]"


def missed(models: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return for each control the models on which it is not found where it belongs."""
    found: dict[str, list[str]] = {name: [] for name in CONTROLS}
    for model in models:
        for name in CONTROLS:
            row = model["rows"].get(name)
            if row and not _found(name, row, share(row, model["rows"]["fp32"])):
                found[name].append(model["model"])
    return found


def _found(control: str, row: Mapping[str, Any], kept: float) -> bool:
    speed = row["speedup"]
    if control == "planted-worse":
        return kept < CLASSES[-1]
    if not speed:
        return False
    return bool(speed["high"] < SLOWER if control == "planted-slower" else speed["low"] <= 1 <= speed["high"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--venv", action="append", default=[], metavar="PACKAGE=PYTHON")
    parser.add_argument("--without", action="append", default=[], choices=tuple(MAKERS), help="leave a quantizer out")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "onnxopt-bench" / "deployed")
    parser.add_argument("--work", type=Path, default=HERE / "build" / "deployed-int8", help="folder of the files")
    parser.add_argument("--pack", type=Path, default=ROOT, help="folder of the developer pack")
    parser.add_argument("--fresh", type=int, default=150, help="samples to judge on")
    parser.add_argument("--seconds", type=float, default=6.0, help="of latency measurement per model")
    parser.add_argument("--table", action="store_true", help="print the record, measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today()}-deployed-int8.json")
    options = parser.parse_args()
    models: list[dict[str, Any]] = json.loads(options.out.read_text())["models"] if options.out.exists() else []
    venvs = dict(entry.split("=", 1) for entry in options.venv)
    makers = {m: package for m, (_, package) in MAKERS.items() if m not in (*OURS, *options.without)}
    pythons = {m: venvs.get(package, sys.executable) for m, package in makers.items()}
    known = {case.name: case for case in cases(options.pack)}
    for name in () if options.table else options.names or known:
        if name in {model["model"] for model in models}:
            continue
        models.append(measure(known[name], pythons, options))
        print(table(models[-1:]), flush=True)
        settings = {"fresh": options.fresh, "seconds": options.seconds, "samples": SAMPLES}
        record = {"settings": settings, "controls": missed(models), "models": models, "environment": environment()}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(table(models))
    print(json.dumps(missed(models), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
