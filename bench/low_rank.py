"""Accuracy, work, size and time after `factorize`, without training, on the developer pack.

    python bench/low_rank.py [NAME_PART ...] [--levels 0.7 0.5 0.35] [--seconds 4]
    python bench/low_rank.py --table --out bench/results/FILE

For every share of the work that may remain, plain truncation of the weights stands beside directions chosen on
unlabeled calibration samples, and beside layers fitted one after the other; `mix` is the same for a share of the
time, where a knapsack over measured times of layers chooses and predicts. No sample is in the test part too. Time is
the thread's own, which other work on the machine disturbs least. All but `mix` are shown even where they are not
faster; the pass by itself undoes those. Saves JSON under `bench/results/` after each row and leaves out the rows that
are in it already; `--table` prints what is there.
"""

import argparse
import itertools
import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx_ir as ir
from pack import Case, cases

from onnxopt import model_file
from onnxopt.catalog import format_pass
from onnxopt.graph.layers import Anatomy, anatomy_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.latency.latency_table import timed_by
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.passes.factorize import Factorize
from onnxopt.pipeline import Context, Edit, Pass, Pipeline
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
MODELS = ("text_sst2_bert_l2_d192", "tf_kws_dnn_m", "tf_kws_lstm_m", "cifar10_jpeg_resnet9")
LEVELS = (0.7, 0.5, 0.35)
SAMPLES = 256
WALL = time.perf_counter_ns.__name__
METHODS: dict[str, dict[str, Any]] = {
    "plain SVD": {"data_aware": False},
    "data-aware": {"sequential": False},
    "sequential": {},
    "mix": {},
}


def run(case: Case, found: dict[str, Any], args: argparse.Namespace, save: Callable[[], None]) -> None:
    """Measure the rows of a model that `found` lacks, and call `save` after each."""
    model = model_file.load(case.path)
    test, samples = case.test(), case.calibration()
    test, samples = test.take(min(args.limit, len(test))), samples.take(min(args.samples, len(samples)))
    judge = LabelJudge(model, test, Runtime(), metric_of("top1", label_offset=case.label_offset))
    inputs, base = drawn_inputs(test, 1), anatomy_of(model)
    found |= {
        "n": len(test),
        "samples": len(samples),
        "baseline_accuracy": judge.baseline().value,
        "macs": base.macs,
        "size_bytes": model_file.size_bytes(model),
    }
    rows = found.setdefault("rows", [])
    for level, method in itertools.product(args.levels, args.methods):
        if any((row["asked"], row["method"]) == (level, method) for row in rows):
            continue
        goal = {"latency": level} if method == "mix" else {"macs": level, "verify": False}
        row = one(Factorize(**goal, **METHODS[method]), model, Context(detect(), samples), judge, base)
        built = row.pop("built")
        timed = measure_latency({"a": model, "b": built}, inputs, Runtime(), seconds=args.seconds)
        speedup = timed["b"].speedup
        row["clock"] = timed_by(Runtime()).own.__name__
        row["time_share"] = [1 / speedup.high, 1 / speedup.value, 1 / speedup.low]
        rows.append({"method": method, "asked": level, **row})
        print(line(rows[-1]), flush=True)
        save()


def one(spec: Pass, model: ir.Model, context: Context, judge: LabelJudge, base: Anatomy) -> dict[str, Any]:
    start = time.perf_counter()
    optimized = Pipeline((spec,)).run(model, context)
    duration = time.perf_counter() - start
    step, after = optimized.steps[-1], anatomy_of(optimized.model)
    layers = [edit.target for edit in step.edits if edit.target != "graph"]
    dense = sum(layer.parameters for layer in base.layers if layer.name in layers)
    drop = judge.drop(judge.evaluate(optimized.model))
    return {
        "built": optimized.model,
        "spec": format_pass(spec),
        "macs_share": after.macs / base.macs,
        "parameters_share": after.parameters / base.parameters,
        "parameters_share_of_factorized": (dense - base.parameters + after.parameters) / dense if dense else 1.0,
        "size_share": model_file.size_bytes(optimized.model) / model_file.size_bytes(model),
        "drop": drop.value,
        "drop_interval": [drop.interval.low, drop.interval.high],
        "layers": {edit.target: edit.action for edit in step.edits if edit.target != "graph"},
        "predicted_time_share": predicted(step.edits),
        "graph": [edit.action for edit in step.edits if edit.target == "graph"],
        "left": {skip.target: skip.reason for skip in step.skipped},
        "proved_difference": step.difference,
        "duration_s": round(duration, 1),
    }


def predicted(edits: Sequence[Edit]) -> float | None:
    texts = (re.match(r"predicted to take (\d+) ?% of the time", edit.action) for edit in edits)
    return next((int(found.group(1)) / 100 for found in texts if found), None)


def line(row: dict[str, Any]) -> str:
    shares = f"{row['macs_share']:5.0%} {row['parameters_share_of_factorized']:6.0%} {row['size_share']:6.0%}"
    told = f"{row['predicted_time_share']:9.2f}" if row["predicted_time_share"] is not None else " " * 9
    end = f"{row['time_share'][1]:6.2f} {told} {len(row['layers']):7} {row['duration_s']:8.1f}"
    return f"  {row['method']:12} {row['asked']:5.0%} {shares} {100 * row['drop']:+7.2f} {end}"


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return what was measured as a Markdown table."""
    lines = [
        "| model (n) | method | goal | work left | parameters* | file | drop, points | time, 95 % | predicted |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in results:
        rows = sorted(found["rows"], key=lambda r: (-r["asked"], list(METHODS).index(r["method"])))
        for row in rows:
            name = f"{found['model']} ({found['n']})" if row is rows[0] else ""
            low, middle, high = row["time_share"]
            told, mark = row["predicted_time_share"], " w" if row["clock"] == WALL else ""
            cells = [
                *(name, row["method"], f"{row['asked']:.0%}", f"{row['macs_share']:.0%}"),
                *(f"{row['parameters_share_of_factorized']:.0%}", f"{row['size_share']:.0%}"),
                *(f"{100 * row['drop']:.2f}", f"{middle:.2f} ({low:.2f} to {high:.2f}){mark}"),
                "-" if told is None else f"{told:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=list(MODELS), help="parts of model names")
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS), help="shares of the work to keep")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--limit", type=int, default=1000, help="test samples")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="unlabeled, to calibrate on")
    parser.add_argument("--seconds", type=float, default=4.0, help="of latency measurement per row")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today().isoformat()}-low-rank.json")
    parser.add_argument("--table", action="store_true", help="print what the file has, and measure nothing")
    args = parser.parse_args()
    done = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    if args.table:
        print(table(done))
        return 0

    def save() -> None:
        text = json.dumps({"environment": environment(), "results": done}, indent=1, default=str)
        model_file.atomic_write_text(args.out, text + "\n", overwrite=True)

    for case in cases(args.only):
        found = next((f for f in done if f["model"] == case.name), None)
        if found is None:
            found = {"model": case.name}
            done.append(found)
        print(f"\n{case.name}\n  method        goal  MACs  params* size  points  time x predicted layers  seconds")
        run(case, found, args, save)
    print("\n* parameters left in the layers that were factorized.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
