"""`onnxopt optimize` on the developer pack, with onnxruntime's own quantizer measured beside it in the same run.

    python bench/real_models.py [NAME_PART ...] [--max-drop 1pp] [--peer ort-default --peer ort-u8s8]

Prints one table and saves it as JSON, with the processor, the versions and every figure, under `bench/results/`.
Accuracy is measured on all test samples, search and hold-out part together; nothing of them is calibrated on.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pack import Case, cases
from peers import PEERS

from onnxopt import model_file
from onnxopt.measure.environment import environment
from onnxopt.measure.judge import LabelJudge
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.metrics import metric_of
from onnxopt.measure.session import Runtime
from onnxopt.measure.statistics import Drop
from onnxopt.search.budget import Budget
from onnxopt.search.observer import Silent
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts, typical_feeds
from onnxopt.search.settings import Settings
from onnxopt.search.trial import SearchResult, Trial

RESULTS = Path(__file__).parent / "results"
PARITY = 0.97
"""Closer than 3 % is no difference on a noisy machine."""


class Narrator(Silent):
    def finished(self, trial: Trial) -> None:
        speed = trial.latency.speedup.value if trial.latency and trial.latency.speedup else float("nan")
        drop = trial.drop.value if trial.drop else float("nan")
        print(f"    {trial.candidate.name:28} {trial.verdict.value:14} {speed:5.2f}x drop {drop:7.4f}  {trial.reason}")


def ratio(value: Any) -> str:
    return "-" if value is None else f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def measure(case: Case, budget: Budget, peers: list[str], seconds: float) -> dict[str, Any]:
    start = time.perf_counter()
    model = model_file.load(case.path)
    test, calibration = case.test(), case.calibration()
    metric, runtime = metric_of("top1", label_offset=case.label_offset), Runtime()
    parts = split_parts(test, calibration, seed=0)
    result = search(model, parts, metric, Settings(budget=budget, runtime=runtime), Narrator())
    models: dict[str, Any] = {"baseline": model, "onnxopt": result.model}
    failures = {}
    for name in peers:
        try:
            models[name] = PEERS[name](case.path, calibration)
        except Exception as error:  # a peer may fail in any way
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    judge = LabelJudge(model, test, metric, runtime)
    feeds = typical_feeds(test, 1)
    for name in list(models):
        try:
            measure_latency({name: models[name]}, feeds, runtime, seconds=0.01, min_rounds=1, epochs=1)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            del models[name]
    timed = measure_latency(models, feeds, runtime, seconds=seconds)
    rows = {name: row(judge, name, built, timed) for name, built in models.items()}
    return {
        "model": case.name,
        "n": len(test),
        "baseline_accuracy": judge.baseline().value,
        "baseline_p50_ms": timed["baseline"].p50_ms,
        "allowed_drop": result.allowed_drop,
        "winner": None if result.winner is None else result.winner.candidate.name,
        "reason": result.reason,
        "holdout": holdout(result),
        "rows": rows,
        "failures": failures,
        "behind": behind(rows, result.allowed_drop, peers),
        "duration_s": round(time.perf_counter() - start, 1),
    }


def row(judge: LabelJudge, name: str, built: Any, timed: Any) -> dict[str, Any]:
    drop: Drop | None = None
    if name != "baseline":
        drop = judge.drop(judge.evaluate(built))
    size = len(built) if isinstance(built, bytes) else model_file.size_bytes(built)
    speedup = timed[name].speedup
    return {
        "drop": None if drop is None else drop.value,
        "drop_interval": None if drop is None else [drop.interval.low, drop.interval.high],
        "speedup": None
        if speedup is None
        else {"low": speedup.low, "value": speedup.value, "high": speedup.high, "level": speedup.level},
        "p50_ms": timed[name].p50_ms,
        "size_bytes": size,
    }


def holdout(result: SearchResult) -> dict[str, Any] | None:
    if result.winner is None:
        return None
    proof = result.proofs[-1]
    return {"n": proof.drop.n, "drop": proof.drop.value, "confidence": proof.confidence}


def behind(rows: dict[str, Any], allowed: float, peers: list[str]) -> list[str]:
    """Return the peers that are inside the budget and clearly faster than ours."""
    ours = rows["onnxopt"]["speedup"]["value"]
    inside = [p for p in peers if p in rows and rows[p]["drop"] <= allowed]
    return [p for p in inside if ours < PARITY * rows[p]["speedup"]["value"]]


def line(found: dict[str, Any], peers: list[str]) -> str:
    base = found["rows"]["baseline"]
    cells = [found["model"], str(found["n"]), f"{100 * found['baseline_accuracy']:.2f}", found["winner"] or "original"]
    for name in ("onnxopt", *peers):
        r = found["rows"].get(name)
        cells.append(
            "fails"
            if r is None
            else f"{100 * r['drop']:+.2f} / {ratio(r['speedup'])} / {base['size_bytes'] / r['size_bytes']:.1f}"
        )
    return "| " + " | ".join(cells) + " |"


def main(report: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of model names")
    parser.add_argument("--max-drop", default="1pp")
    parser.add_argument("--peer", action="append", default=[], choices=sorted(PEERS))
    parser.add_argument("--seconds", type=float, default=8.0, help="of latency measurement per model")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-real-models.json")
    options = parser.parse_args()
    budget = Budget.parse(options.max_drop)
    found, crashed = [], []
    for case in cases(options.only):
        report(case.name)
        try:
            found.append(measure(case, budget, options.peer, options.seconds))
        except Exception as error:
            crashed.append(case.name)
            report(f"    CRASHED {type(error).__name__}: {error}")
            continue
        report("    " + line(found[-1], options.peer) + f"  {found[-1]['duration_s']} s")
    heads = [
        "model",
        "n",
        "FP32 top-1",
        "winner",
        *(f"{n}: drop pp / speed-up / size ratio" for n in ("onnxopt", *options.peer)),
    ]
    report("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for f in found:
        report(line(f, options.peer))
    speeds = [f["rows"]["onnxopt"]["speedup"] for f in found]
    over = [f["model"] for f in found if f["rows"]["onnxopt"]["drop"] > f["allowed_drop"]]
    slower = [f["model"] for f in found if f["rows"]["onnxopt"]["speedup"]["high"] < 1]
    both = [f["model"] for f in found if len(options.peer) > 1 and set(f["behind"]) == set(options.peer)]
    summary = {
        "median_speedup": float(np.median([s["value"] for s in speeds])) if speeds else None,
        "over_budget": over,
        "slower_than_fp32": slower,
        "behind_all_peers": both,
        "crashed": crashed,
    }
    report(json.dumps(summary, indent=1))
    options.out.parent.mkdir(exist_ok=True)
    record = {"environment": environment(), "max_drop": options.max_drop, "summary": summary, "models": found}
    options.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
    report(f"saved {options.out}")
    return 1 if over or slower or both or crashed else 0


if __name__ == "__main__":
    raise SystemExit(main())
