"""The best model on disk after 15, 30, 60, 120 and 300 seconds of `onnxopt optimize`, by one or more checkouts.

    git worktree add ../before COMMIT
    python bench/anytime.py --tree before=../before --tree now=. --limit before=300 --limit now=60 [NAME_PART ...]
    python bench/anytime.py --table FILE.json

One run of `--limit` seconds (of all checkouts, or of one: NAME=SECONDS) for each model and checkout: every `best.onnx`
that appears in the run folder is kept with the time at which it was there. At the end all of one model's are timed
beside the original in one process, by the code of this checkout, so the figures are ratios of one clock. A file counts
as proved from when its run's own journal says so (a line `proved`), or, where it holds no such line, from the end of
the run. Two checkouts are compared, each at the end of its limit.

The models: two of random weights (ResNet-50, 100 MB; BERT-base, 440 MB), those of the developer pack, and those in
`models/`. Random weights have no accuracy to lose: there a metric takes every answer for right, and the figures are of
speed alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pack import cases
from time_limit import MADE, samples_of

from onnxopt import model_file
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.samples import open_samples

HERE = Path(__file__).parent
TIMES = (15, 30, 60, 120, 300)
DIGITS = {"digits_resnet": (1, 8, 8), "digits_vit": (1, 8, 8), "digits_gru": (8, 8), "digits_mlp": (64,)}
PACK = (
    "cifar10_jpeg_resnet20",
    "cifar10_jpeg_resnet9",
    "squeezenet",
    "tf_kws_ds_cnn_l",
    "text_sst2_bert",
    "mobilenetv2",
)
RANDOM_SAMPLES = 192
"""So many that the hold-out part can prove something."""
ALWAYS_RIGHT = """def always_right(outputs, label):
    return 1.0


always_right.per_sample = always_right.bounded = True
"""
"""A metric for random weights, which have no accuracy to lose: every answer counts as right."""
LATE = 1.15
"""A limit may be exceeded by so much."""
_LOOK_S = 0.1


@dataclass(frozen=True)
class Subject:
    """A model, how its data is written, and further options of the command."""

    name: str
    write: Callable[[Path], tuple[Path, Sequence[str]]]


def subjects(only: Sequence[str]) -> list[Subject]:
    """Return the models to run, the large ones first."""
    found = [Subject(name, _random(name)) for name in MADE]
    found += [Subject(case.name, _of_pack(case)) for part in PACK for case in cases([part])]
    found += [Subject(name, _of_digits(name)) for name in DIGITS]
    return [s for s in found if not only or any(part in s.name for part in only)]


def _random(name: str) -> Callable[[Path], tuple[Path, Sequence[str]]]:
    def write(folder: Path) -> tuple[Path, Sequence[str]]:
        model = MADE[name](folder / f"{name}.onnx")
        data = samples_of(model, folder / "data.npz", RANDOM_SAMPLES)
        np.save(folder / "labels.npy", np.zeros(RANDOM_SAMPLES, np.int64))
        (folder / "metric.py").write_text(ALWAYS_RIGHT)
        metric = f"{folder / 'metric.py'}:always_right"
        return model, ("--data", str(data), "--labels", str(folder / "labels.npy"), "--metric", metric)

    return write


def _of_pack(case: Any) -> Callable[[Path], tuple[Path, Sequence[str]]]:
    def write(folder: Path) -> tuple[Path, Sequence[str]]:
        test, calibration = case.test(), case.calibration()
        longest = 48 if case.entry["task"] == "text" else 0
        for file, samples in (("data", test), ("calibration", calibration)):
            rows = [samples.source.read(int(i)) for i in samples.indices]
            arrays = {name: np.stack([_padded(row[name], longest) for row in rows]) for name in rows[0]}
            np.savez(folder / f"{file}.npz", **arrays)  # type: ignore[arg-type]
        np.save(folder / "labels.npy", np.asarray(test.labels) + case.label_offset)
        data = ("--data", str(folder / "data.npz"), "--labels", str(folder / "labels.npy"))
        return case.path, (*data, "--calibration", str(folder / "calibration.npz"))

    return write


def _padded(row: np.ndarray, longest: int) -> np.ndarray:
    return np.pad(row, (0, longest - len(row))) if longest else row


def _of_digits(name: str) -> Callable[[Path], tuple[Path, Sequence[str]]]:
    def write(folder: Path) -> tuple[Path, Sequence[str]]:
        from sklearn.datasets import load_digits

        model, digits = HERE.parent / "models" / f"{name}.onnx", load_digits()
        tested = np.random.RandomState(0).permutation(1797)[1000:]
        images = (digits.images[tested] / 16).astype(np.float32).reshape(-1, *DIGITS[name])
        given = model_file.signature_of(model_file.load(model)).inputs[0].name
        np.savez(folder / "data.npz", **{given: images})
        np.save(folder / "labels.npy", digits.target[tested])
        return model, ("--data", str(folder / "data.npz"), "--labels", str(folder / "labels.npy"))

    return write


def traced(tree: Path, model: Path, more: Sequence[str], out: Path, limit_s: float) -> dict[str, Any]:
    """Run one checkout's command, and return when which best.onnx was there, kept as links beside the run folder."""
    command = [sys.executable, "-m", "onnxopt", "optimize", str(model), *more, "--out", str(out)]
    command += ["--time-limit", f"{limit_s:g}"]
    kept = out.with_name(f"{out.name}-kept")
    kept.mkdir()
    env = {**os.environ, "XDG_CACHE_HOME": str(out.with_name(f"{out.name}-cache"))}
    start = time.time()
    process = subprocess.Popen(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    seen, found = (0, 0), list[dict[str, Any]]()
    while True:
        ended = process.poll() is not None
        best = out / "best.onnx"
        if best.exists():
            about = best.stat()
            if (about.st_ino, about.st_mtime_ns) != seen:
                seen = about.st_ino, about.st_mtime_ns
                link = kept / f"{len(found)}.onnx"
                os.link(best, link)
                found.append({"at_s": about.st_mtime - start, "file": str(link), "model": _winner(out)})
        if ended:
            break
        time.sleep(_LOOK_S)
    wall_s = time.time() - start
    record = json.loads((out / "run.json").read_text()) if (out / "run.json").exists() else {}
    return {
        "wall_s": wall_s,
        "exit": process.returncode,
        "winner": record.get("winner"),
        "standing": record.get("standing"),
        "reason": record.get("reason") or (process.communicate()[1] or "").strip()[-300:],
        "steps": found,
        "proved": _proved(out, start) or [{"at_s": wall_s, "model": record.get("winner")}],
        "trials": [[t["name"], t["verdict"]] for t in record.get("trials", ())],
    }


def _winner(out: Path) -> str | None:
    try:
        found: str | None = json.loads((out / "run.json").read_text()).get("winner")
    except (OSError, ValueError):
        return None
    return found


def _proved(out: Path, start: float) -> list[dict[str, Any]]:
    """Return what the journal says of proofs; a journal without time stamps says nothing."""
    try:
        events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return []
    return [
        {"at_s": event["time"] - start, "model": event["candidate"]}
        for event in events
        if event.get("kind") == "proved" and "time" in event
    ]


def timed(model: Path, data: Path, runs: dict[str, dict[str, Any]], seconds: float) -> None:
    """Add to every step of all runs how fast its model is, beside the original."""
    loaded = {"baseline": model_file.load(model)}
    steps = [step for run in runs.values() for step in run["steps"]]
    by_bytes = dict[bytes, str]()
    for number, step in enumerate(steps):
        step["timed_as"] = by_bytes.setdefault(Path(step["file"]).read_bytes(), str(number))
    del by_bytes
    for step in steps:
        if step["timed_as"] not in loaded:
            loaded[step["timed_as"]] = model_file.load(step["file"])
    samples = open_samples(data, model_file.signature_of(loaded["baseline"]), limit=64)
    found = measure_latency(loaded, drawn_inputs(samples, 1), Runtime(), seconds=seconds * len(loaded))
    for step in steps:
        speedup = found[step.pop("timed_as")].speedup
        step["speedup"] = None if speedup is None else [speedup.low, speedup.value, speedup.high]
        del step["file"]


def interval(run: dict[str, Any], at_s: float) -> list[float]:
    """Return how fast the file is that is on the disk at a time; the original's 1 where there is none."""
    before = [step["speedup"] for step in run["steps"] if step["at_s"] <= at_s and step["speedup"]]
    return list(before[-1]) if before else [1.0, 1.0, 1.0]


def reached(run: dict[str, Any], at_s: float) -> float:
    """Return the middle of `interval`."""
    return interval(run, at_s)[1]


def compared(record: dict[str, Any]) -> str:
    """Return the sentence that compares two checkouts, each at the end of its limit."""
    if len(record["limit_s"]) != 2:
        return ""
    (first, first_s), (second, second_s) = sorted(record["limit_s"].items(), key=lambda each: each[1])
    pairs = {
        one["model"]: (interval(one["runs"][first], first_s * LATE), interval(one["runs"][second], second_s * LATE))
        for one in record["models"]
        if len(one["runs"]) == 2
    }
    behind = [name for name, (early, late) in pairs.items() if early[2] < late[0]]
    ratio = float(np.median([early[1] / late[1] for early, late in pairs.values()])) if pairs else 1.0
    return (
        f"{first} at {first_s:g} s against {second} at {second_s:g} s, {len(pairs)} models: median {ratio:.2f} times "
        f"as fast; behind beyond doubt: {', '.join(behind) or 'none'}"
    )


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = ["| model | MB | checkout |" + "".join(f" {t} s |" for t in TIMES) + " first proof | winner |"]
    lines += ["|---|--:|---|" + "--:|" * (len(TIMES) + 1) + "---|"]
    for one in record["models"]:
        for tree, run in one["runs"].items():
            cells = [f"{reached(run, t):.2f}x" for t in TIMES]
            first = min((p["at_s"] for p in run["proved"] if p["model"]), default=None)
            cells += ["-" if first is None else f"{first:.0f} s", str(run["winner"])]
            lines.append(f"| {one['model']} | {one['size_mb']:.1f} | {tree} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def limits_of(texts: Sequence[str], tree_names: Iterable[str]) -> dict[str, float]:
    """Return the seconds for each checkout: `300` is that of all, `now=60` that of one."""
    found = dict[str, float]()
    for text in texts:
        name, _, seconds = text.rpartition("=")
        found |= dict.fromkeys([name] if name else tree_names, float(seconds))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of model names")
    parser.add_argument("--tree", action="append", default=[], help="NAME=FOLDER of a checkout, once for each")
    parser.add_argument("--limit", action="append", default=[], help="SECONDS, or NAME=SECONDS of one checkout")
    parser.add_argument("--no-prune", action="store_true", help="quantization only")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing, for each model")
    parser.add_argument("--table", type=Path, help="print a record, measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{time.strftime('%Y-%m-%d')}-anytime.json")
    asked = parser.parse_args()
    if asked.table:
        record = json.loads(asked.table.read_text())
        print(table(record), compared(record), sep="\n")
        return 0
    trees = dict(text.split("=", 1) for text in asked.tree) or {"now": "."}
    limits = dict.fromkeys(trees, 300.0) | limits_of(asked.limit, tree_names=trees)
    fresh = {"limit_s": limits, "prune": not asked.no_prune, "models": [], "environment": environment(Runtime())}
    record = json.loads(asked.out.read_text()) if asked.out.exists() else fresh
    for subject in subjects(asked.only):
        with tempfile.TemporaryDirectory(prefix="onnxopt-anytime-") as name:
            folder = Path(name)
            model, options = subject.write(folder)
            options = (*options, *(() if asked.no_prune else ("--prune",)))
            runs = {}
            for tree, place in trees.items():
                runs[tree] = traced(Path(place).resolve(), model, options, folder / tree, limits[tree])
                print(f"{subject.name} {tree}: {runs[tree]['reason']}", flush=True)
            timed(model, folder / "data.npz", runs, asked.seconds)
            for tree in trees:
                shutil.rmtree(folder / tree, ignore_errors=True)
            size_mb = model.stat().st_size / 1e6
        known = next((one for one in record["models"] if one["model"] == subject.name), None)
        if known is None:
            record["models"].append({"model": subject.name, "size_mb": size_mb, "runs": runs})
        else:
            known["runs"] |= runs
        asked.out.write_text(json.dumps(record, indent=1) + "\n")
        print(table({**record, "models": record["models"][-1:] if known is None else [known]}), flush=True)
    print(table(record), compared(record), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
