"""Repair quantized files of many tools and measure each before against after.

    python bench/repair_files.py FOLDER --venv PYTHON ...    # with the tools of other environments
    python bench/repair.py FOLDER [FILE ...] [--seconds 1]
    python bench/repair.py --table

Every file is repaired as `onnxopt repair` does, then written and judged again by new sessions: outputs with the
runtime's optimizations off on other inputs, and the speed of the written file beside the original's, and of both beside
the float network in FOLDER/float that it was made from. Inputs are made up, or read from FOLDER/inputs, of which half
are for the repair. Prints a row per file and saves all as JSON in `bench/results/`. Exit code 1 when a file is slower
than before beyond doubt, or changed beyond the bound, or not equal where that was stated.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from peers_quantize import read_feeds
from repair_table import table

from onnxopt import model_file, repair
from onnxopt.errors import OnnxoptError
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Loadable, Runtime, optimized_model
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.repairs.witness import Witness, change
from onnxopt.samples import Feeds
from onnxopt.tasks.repair import MOST_CHANGE
from onnxopt.tasks.repaired import Repaired

RESULTS = Path(__file__).parent / "results"
FRESH_SEEDS = tuple(range(1001, 1017))
INTEGER = ("QLinearConv", "ConvInteger")


def row(path: Path, seconds: float) -> dict[str, Any]:
    network, _, way = path.stem.partition("--")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "mended.onnx"
        given, fresh = _inputs(path)
        done = repair(path, given, out=out, seconds=seconds)
        after = out if done.files else path
        return {
            "file": path.stem,
            "network": network,
            "way": way or "given",
            "found": {one.repair.code: "kept" if one.kept else one.reason for one in done.tried},
            "kept": [one.repair.code for one in done.kept],
            "exact": all(one.exact for one in done.kept),
            "reordering": sum(one.repair.reordering for one in done.kept),
            "size_ratio": round(model_file.size_of(after) / model_file.size_of(path), 3),
            **_judged((path, after), fresh, seconds, done),
            **_beside_float(path.parent / "float" / f"{network}.onnx", (path, after), fresh, seconds, done),
        }


def _inputs(path: Path) -> tuple[Sequence[Feeds] | None, Sequence[Feeds]]:
    """Return the inputs for the repair, None to let it make some up, and others to judge the result on."""
    stored = path.parent / "inputs" / f"{path.stem}.npz"
    if not stored.is_file():
        signature = signature_of(model_file.load(path))
        return None, [probe_feeds(signature, seed=seed, dynamic=1) for seed in FRESH_SEEDS]
    feeds = read_feeds(str(stored))
    return feeds[: len(feeds) // 2], feeds[len(feeds) // 2 :]


def _judged(files: Sequence[Path], batches: Sequence[Feeds], seconds: float, done: Repaired) -> dict[str, Any]:
    """Return how the written file compares, by sessions and inputs that had no part in its making."""
    models = [model_file.load(path) for path in files]
    witness = Witness(models[0], batches, Runtime())
    moved = change(witness.truth, witness.plain(models[1]))
    found: dict[str, Any] = {
        "change": moved,
        "change_as_run": change(witness.truth, witness.deployed(models[1])),
        "slack": witness.slack,
    }
    if not done.kept:
        return found | {"speed_up": 1.0, "interval": [1.0, 1.0]}
    speed = _speed({"before": models[0], "after": models[1]}, batches, seconds)["after"]
    return found | ({"speed_up": None} if speed is None else {"speed_up": speed[1], "interval": [speed[0], speed[2]]})


def _beside_float(
    network: Path, files: Sequence[Path], batches: Sequence[Feeds], seconds: float, done: Repaired
) -> dict[str, Any]:
    """Return speed-ups over the float network before and after a repair, and the convolutions on integers."""
    if not (done.kept and network.is_file()):
        return {}
    names = ("before", "after")
    speeds = _speed({"float": network, **dict(zip(names, files, strict=True))}, batches, seconds)
    integers = {name: _convolutions(path) for name, path in zip(names, files, strict=True)}
    return {"over_float": {name: speeds[name] for name in names}, "integer_convolutions": integers}


def _convolutions(path: Path) -> list[int]:
    """Return the number of convolutions that the runtime computes on integers, and of all."""
    kinds = [node.op_type for node in optimized_model(path, Runtime()).graph if "Conv" in node.op_type]
    return [sum(kind.startswith(INTEGER) for kind in kinds), len(kinds)]


def _speed(
    models: Mapping[str, Loadable], batches: Sequence[Feeds], seconds: float
) -> dict[str, tuple[float, float, float] | None]:
    """Return low end, value and high end of each speed-up over the first model; None while the clock is unsure."""
    for longer in (1, 3, 6):
        timed = measure_latency(models, batches, Runtime(), seconds=longer * seconds, seed=7)
        if not any(one.unsure for one in timed.values()):
            break
    found = {name: one.speedup for name, one in timed.items()}
    return {name: s and (round(s.low, 3), round(s.value, 3), round(s.high, 3)) for name, s in found.items()}


def wrong(one: dict[str, Any]) -> str:
    """Return the promise that a row breaks; "" for none."""
    if one["speed_up"] is not None and one["interval"][1] < 1:
        return "slower"
    if one["exact"] and one["change"] > one["reordering"]:
        return "not equal"
    beyond = one["change"] > MOST_CHANGE or one["change_as_run"] > max(MOST_CHANGE, 2 * one["slack"])
    return "changed beyond the bound" if beyond else ""


def _files(given: Sequence[Path]) -> Iterator[Path]:
    for path in given:
        yield from sorted(path.glob("*.onnx")) if path.is_dir() else [path]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("given", nargs="*", type=Path)
    parser.add_argument("--table", action="store_true", help="print the record, measure nothing")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="", help="part of the names of files")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-repair.json")
    parser.add_argument("--resume", action="store_true", help="keep the rows of the record, measure the other files")
    options = parser.parse_args(arguments)
    if options.table:
        print(table(json.loads(options.out.read_text())["rows"]))
        return 0
    rows, failures = list[dict[str, Any]](), dict[str, str]()
    if options.resume and options.out.is_file():
        before = json.loads(options.out.read_text())
        rows, failures = before["rows"], before["failures"]
    known = {*failures, *(one["file"] for one in rows)}
    for path in _files(options.given):
        if options.only not in path.name or path.stem in known:
            continue
        try:
            rows.append(row(path, options.seconds))
            one = rows[-1]
            print(
                f"{one['file']:45} {one['speed_up']}x  {one['size_ratio']}  {one['change']:.1e}  {one['found']}",
                flush=True,
            )
        except OnnxoptError as error:
            failures[path.stem] = str(error)
            print(path.stem, error, flush=True)
        summary = _saved(rows, failures, options)
    print(json.dumps(summary, indent=1))
    return 1 if summary["wrong"] else 0


def _saved(rows: list[dict[str, Any]], failures: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Write what was measured so far, and return its summary."""
    speeds = [one["speed_up"] for one in rows if one["kept"] and one["speed_up"]]
    about = [path / "about.json" for path in options.given if path.is_dir()]
    summary = {
        "files": len(rows),
        "mended": sum(bool(one["kept"]) for one in rows),
        "median_speed_up_of_mended": round(statistics.median(speeds), 2) if speeds else None,
        "median_speed_up_of_all": round(statistics.median(one["speed_up"] or 1.0 for one in rows), 2),
        "faster": sum(bool(one["speed_up"]) and one["kept"] != [] and one["interval"][0] > 1 for one in rows),
        "wrong": {one["file"]: wrong(one) for one in rows if wrong(one)},
    }
    result = {
        "environment": environment(),
        "tools": [json.loads(path.read_text()) for path in about if path.is_file()],
        "seconds": options.seconds,
        "bound": MOST_CHANGE,
        "summary": summary,
        "failures": failures,
        "rows": rows,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, default=str) + "\n")
    return summary


if __name__ == "__main__":
    raise SystemExit(main())
