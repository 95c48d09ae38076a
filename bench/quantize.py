"""Quantizers side by side on the developer pack: accuracy, speed, size, and what making each file takes.

    python bench/quantize.py [--venv PACKAGE=PYTHON ...] [NAME_PART ...] [--seconds 8]
    python bench/quantize.py --no-timing [NAME_PART ...]
    python bench/quantize.py --table

First every quantizer makes its file, each in a separate process and, where `--venv` names one, a separate environment
(`peers_quantize.py`), from the same 128 samples; files that are there are used again. Then all files of one model are
judged on the test samples, none of which anybody calibrated on, and timed in one interleaved run, as called. Beside
them are files whose place is known (`controls.py`). The record is written
after each model; models that are in it are left out, so that a run can be continued. `--table` prints it as Markdown.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from controls import CONTROLS, controls
from pack import Case, cases
from peers_quantize import MAKERS, lines_of

import onnxopt
from onnxopt import model_file
from onnxopt.errors import first_line
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.resources.memory import footprint_of
from onnxopt.measure.runtime.environment import environment

HERE = Path(__file__).parent
CALIBRATION_SAMPLES = 128
CALIBRATION = "calibration.npz"
PARITY = 0.97
"""Closer than 3 % is no difference."""
SLOWER = 0.99
"""A speed-up whose interval ends below is a loss; two runs of one file differ by less."""
OURS = ("onnxopt", "onnxopt-high")
LONGEST_S = 900


def unrunnable(error: Exception) -> str:
    """Return why ONNX Runtime does not run a file, without the place of the file on this machine."""
    return f"ONNX Runtime cannot run it: {re.sub(r': Load model from .* failed', '', first_line(error))[:120]}"


def make(case: Case, maker: str, folder: Path, python: str) -> dict[str, Any]:
    """Make one file of a model of the pack from its calibration samples; see `made`."""
    if not (folder / CALIBRATION).exists():
        few = case.calibration().take(CALIBRATION_SAMPLES).with_batch_size(1)
        write_feeds(folder / CALIBRATION, few)
    return made(case.path, maker, folder, python)


def write_feeds(path: Path, samples: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write samples, each with its batch axis, as `peers_quantize.py` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f"{i}/{name}": array for i, feeds in enumerate(samples) for name, array in feeds.items()})


def made(model: Path, maker: str, folder: Path, python: str) -> dict[str, Any]:
    """Make one file, or find it made; return the cost of making it, or the failure."""
    out, facts, failed = (folder / f"{maker}{suffix}" for suffix in (".onnx", ".json", ".failed"))
    if facts.exists():
        return dict(json.loads(facts.read_text()))
    if failed.exists():
        return {"failure": failed.read_text()}
    command = [python, str(HERE / "peers_quantize.py"), maker, str(model), str(folder / CALIBRATION), str(out)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=one_thread, timeout=LONGEST_S, check=False)
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    except subprocess.TimeoutExpired:
        lines = [f"it takes longer than {LONGEST_S} s"]
    if facts.exists():
        return dict(json.loads(facts.read_text()))
    failed.write_text(lines[-1][:160])
    return {"failure": lines[-1][:160]}


def judge(case: Case, files: Mapping[str, Path], folder: Path, most: int) -> dict[str, Any]:
    """Return accuracy and drop of every file on `most` test samples; kept beside the files while they stay."""
    kept = folder / "judged.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    test = case.test().take(min(most, len(case.test())))
    digests = {name: f"{hashlib.sha256(file.read_bytes()).hexdigest()} {len(test)}" for name, file in files.items()}
    metric = onnxopt.metric_of("top1", label_offset=case.label_offset)
    by_labels = LabelJudge(case.path, test, onnxopt.Runtime(), metric)
    for name, file in files.items():
        if known.get(name, {}).get("digest") == digests[name]:
            continue
        found = by_labels.evaluate(file)
        drop = by_labels.drop(found)
        interval = [drop.interval.low, drop.interval.high]
        facts = {"accuracy": found.value, "drop": drop.value, "drop_interval": interval, "n": found.n}
        known[name] = {"digest": digests[name], **facts}
        kept.write_text(json.dumps(known))
    return {name: {k: v for k, v in known[name].items() if k != "digest"} for name in files}


def prepare(
    case: Case, work: Path, pythons: Mapping[str, str], most: int
) -> tuple[dict[str, Any], dict[str, Path], dict[str, Any]]:
    """Make and judge all files of one model; return what making took, the files that run, and their accuracy."""
    folder = work / case.name
    made = {maker: make(case, maker, folder, python) for maker, python in pythons.items()}
    files = {"fp32": case.path} | {m: folder / f"{m}.onnx" for m, facts in made.items() if "failure" not in facts}
    files |= controls(case.path, folder)
    inputs = drawn_inputs(case.test(), 1)
    for maker in list(files):
        try:
            measure_latency({maker: files[maker]}, inputs, onnxopt.Runtime(), seconds=0.01, min_rounds=1, epochs=1)
        except Exception as error:  # a peer's file may be wrong in any way
            made[maker] = {"failure": unrunnable(error)}
            del files[maker]
    return made, files, judge(case, files, folder, most)


def measure(case: Case, work: Path, pythons: Mapping[str, str], most: int, seconds: float) -> dict[str, Any]:
    """Make, judge and time all files of one model."""
    made, files, judged = prepare(case, work, pythons, most)
    inputs = drawn_inputs(case.test(), 1)
    timed = measure_latency(files, inputs, onnxopt.Runtime(), seconds=seconds)
    rows = dict[str, Any]()
    for name, file in files.items():
        latency, memory = timed[name], footprint_of(file, inputs[0], onnxopt.Runtime())
        row: dict[str, Any] = {"size_bytes": model_file.size_of(file), "p50_ms": latency.p50_ms, **judged[name]}
        row |= {"p99_ms": latency.p99_bound_ms, "load_ms": latency.load_ms, "unsure": latency.unsure}
        row["private_bytes"] = memory and memory.private_bytes
        if name != "fp32":
            speedup = latency.speedup
            row["speedup"] = speedup and speedup.value
            row["speedup_interval"] = speedup and [speedup.low, speedup.high]
            row |= made.get(name, {})
            row["passes"] = model_file.load(file).metadata_props.get("onnxopt.passes") if name in OURS else None
        rows[name] = row
    failures = {maker: facts["failure"] for maker, facts in made.items() if "failure" in facts}
    accuracy, n = judged["fp32"]["accuracy"], judged["fp32"]["n"]
    found = {"model": case.name, "n": n, "accuracy": accuracy, "rows": rows, "failures": failures}
    found["load"] = round(os.getloadavg()[0], 1)
    return found | {"behind": {name: behind(rows, name) for name in OURS if name in rows}}


def behind(rows: Mapping[str, Any], name: str) -> list[str]:
    """Return the peers that are clearly faster than `name` and drop no more."""
    own = rows[name]
    peers = [p for p in rows if p not in (*OURS, *CONTROLS, "fp32") and rows[p]["speedup"]]
    return [p for p in peers if rows[p]["drop"] <= own["drop"] and (own["speedup"] or 0) < PARITY * rows[p]["speedup"]]


def summary(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return per maker the medians over the models, and where ours misses; and which controls were found."""
    found = dict[str, Any]()
    for maker in MAKERS:
        rows = [(m, m["rows"][maker]) for m in models if maker in m["rows"]]
        if not rows:
            continue
        timed = [r for _, r in rows if r["speedup"]]
        found[maker] = {
            "models": len(rows),
            "median_speedup": float(np.median([r["speedup"] for r in timed])) if timed else None,
            "median_relative_drop": float(np.median([r["drop"] / m["accuracy"] for m, r in rows])),
            "largest_drop": max(r["drop"] for _, r in rows),
            "slower_than_fp32": [m["model"] for m, r in rows if r["speedup"] and r["speedup_interval"][1] < SLOWER],
            "unsure": [m["model"] for m, r in rows if not r["speedup"]],
            "within_99_percent": kept(models, maker, 0.99),
            "within_99_9_percent": kept(models, maker, 0.999),
            "median_size_ratio": _ratio(rows, "size_bytes"),
            "median_p99_ratio": _ratio(rows, "p99_ms"),
            "median_load_ratio": _ratio(rows, "load_ms"),
            "median_private_ratio": _ratio(rows, "private_bytes"),
            "median_seconds": float(np.median([r["seconds"] for _, r in rows])),
            "median_peak_mb": float(np.median([r["peak_mb"] for _, r in rows])),
            "lines": lines_of(maker),
        }
        if maker in OURS:
            found[maker]["behind"] = {m["model"]: m["behind"][maker] for m in models if m["behind"].get(maker)}
    return found | {"controls": _controls(models)}


def kept(models: Sequence[Mapping[str, Any]], maker: str, least: float) -> int:
    """Return the number of models of which a maker's file keeps at least a share of FP32's accuracy."""
    rows = ((m["accuracy"], m["rows"][maker]["drop"]) for m in models if maker in m["rows"])
    return sum(drop <= (1 - least) * accuracy for accuracy, drop in rows)


def _ratio(rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], kind: str) -> float | None:
    """Return the median of a quantity relative to that of the FP32 file."""
    ratios = [r[kind] / m["rows"]["fp32"][kind] for m, r in rows if r[kind] and m["rows"]["fp32"][kind]]
    return float(np.median(ratios)) if ratios else None


def _controls(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each control on how many models it was found where it belongs, and on which it was not."""
    tests: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
        "again": lambda r: (
            bool(r["speedup"]) and r["speedup_interval"][0] <= 1 <= r["speedup_interval"][1] and not r["drop"]
        ),
        "planted-slower": lambda r: bool(r["speedup"]) and r["speedup_interval"][1] < SLOWER,
        "planted-worse": lambda r: r["drop_interval"][0] > 0,
    }
    found = dict[str, Any]()
    for name, right in tests.items():
        rows = [(m["model"], m["rows"][name]) for m in models if name in m["rows"]]
        found[name] = {"models": len(rows), "missed": [model for model, row in rows if not right(row)]}
    return found


def table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the record as Markdown: drop in points / speed-up (its 95 % interval) per file, then medians."""
    lines = [f"| model (n) | FP32 | {' | '.join(MAKERS)} |", "|---|--:|" + "---|" * len(MAKERS)]
    for m in models:
        cells = [f"{m['model']} ({m['n']})", f"{100 * m['accuracy']:.2f}"]
        for maker in MAKERS:
            row = m["rows"].get(maker)
            if row is None:
                cells.append("fails" if maker in m["failures"] else "")
                continue
            low, high = row["speedup_interval"] or (float("nan"), float("nan"))
            speedup = f"{row['speedup']:.2f} ({low:.2f} to {high:.2f})" if row["speedup"] else "unsure"
            cells.append(f"{100 * row['drop']:+.2f} / {speedup}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *medians(models)])


def medians(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the medians as Markdown: time, memory and size relative to the FP32 file."""
    heads = ("quantizer", "models", "median speed-up", "slower than FP32", ">= 99 %", ">= 99.9 %", "median drop")
    heads += ("largest drop, points", "size", "p99", "load", "private memory", "made in", "memory", "lines")
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for maker, s in summary(models).items():
        if maker == "controls":
            continue
        cells = [maker, str(s["models"]), _cell(s["median_speedup"]), str(len(s["slower_than_fp32"]))]
        cells += [
            *(str(kept(models, maker, least)) for least in (0.99, 0.999)),
            f"{100 * s['median_relative_drop']:.2f} %",
            f"{100 * s['largest_drop']:.2f}",
        ]
        cells += [_cell(s[f"median_{kind}_ratio"]) for kind in ("size", "p99", "load", "private")]
        cells += [f"{s['median_seconds']:.1f} s", f"{s['median_peak_mb']:.0f} MB", str(s["lines"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cell(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of model names")
    parser.add_argument("--venv", action="append", default=[], metavar="PACKAGE=PYTHON")
    parser.add_argument("--without", action="append", default=[], choices=tuple(MAKERS), help="leave a quantizer out")
    parser.add_argument("--work", type=Path, default=HERE / "build" / "quantize", help="folder of the files")
    parser.add_argument("--most", type=int, default=10_000, help="test samples at most")
    parser.add_argument("--seconds", type=float, default=8.0, help="of latency measurement per model")
    parser.add_argument("--table", action="store_true", help="print the record, measure nothing")
    parser.add_argument("--no-timing", action="store_true", help="make and judge the files only")
    parser.add_argument("--again", action="store_true", help="measure models that are in the record too")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today()}-quantize.json")
    options = parser.parse_args()
    models: list[dict[str, Any]] = json.loads(options.out.read_text())["models"] if options.out.exists() else []
    if options.table:
        print(table(models))
        return 0
    venvs = dict(entry.split("=", 1) for entry in options.venv)
    pythons = {m: venvs.get(package, sys.executable) for m, (_, package) in MAKERS.items() if m not in options.without}
    for case in cases(options.only):
        if options.no_timing:
            _, _, judged = prepare(case, options.work, pythons, options.most)
            print(case.name, {name: f"{100 * facts['drop']:.2f}" for name, facts in judged.items()}, flush=True)
            continue
        known = next((i for i, m in enumerate(models) if m["model"] == case.name), None)
        if known is not None and not options.again:
            continue
        found = measure(case, options.work, pythons, options.most, options.seconds)
        models = [m for m in models if m["model"] != case.name] + [found]
        options.out.parent.mkdir(exist_ok=True)
        record = {"environment": environment(onnxopt.Runtime()), "summary": summary(models), "models": models}
        options.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
        print(f"{table([found]).splitlines()[2]} behind: {found['behind']}", flush=True)
    print(table(models))
    missed = [name for name in OURS if summary(models).get(name, {}).get("slower_than_fp32")]
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
