"""Accuracy, work, size and time after `factorize`, without training, on the developer pack.

    python bench/low_rank.py [NAME_PART ...] [--levels 0.7 0.5 0.35] [--seconds 4]

For every share of the multiply-accumulates that may remain, plain truncation of the weights stands beside directions
chosen on at most 256 unlabeled calibration samples, and beside layers fitted one after the other; `mix` is the same
for a share of the time, where a knapsack over measured times of layers chooses and predicts. None of these samples is
in the test part. All but `mix` are shown even where they are not faster; the pass by itself undoes those. Prints a
table per model and saves JSON under `bench/results/` after each; models that are in that file already are left out.
"""

import argparse
import itertools
import json
import re
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx_ir as ir
from pack import Case, cases

from onnxopt import model_file
from onnxopt.catalog import format_pass
from onnxopt.graph.layers import Anatomy, anatomy_of
from onnxopt.measure.environment import environment
from onnxopt.measure.judge import LabelJudge
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.metrics import metric_of
from onnxopt.measure.session import Runtime
from onnxopt.passes.factorize import Factorize
from onnxopt.pipeline import Context, Edit, Pipeline
from onnxopt.quantization.isa import detect
from onnxopt.search.parts import typical_feeds

RESULTS = Path(__file__).parent / "results"
MODELS = ("text_sst2_bert_l2_d192", "tf_kws_dnn_m", "tf_kws_lstm_m", "cifar10_jpeg_resnet9")
LEVELS = (0.7, 0.5, 0.35)
SAMPLES = 256
METHODS: dict[str, dict[str, Any]] = {
    "plain SVD": {"data_aware": False},
    "data-aware": {"sequential": False},
    "sequential": {},
    "mix": {},
}


def rows_of(case: Case, levels: list[float], limit: int, seconds: float, methods: list[str]) -> dict[str, Any]:
    model = model_file.load(case.path)
    test, samples = case.test(), case.calibration()
    test, samples = test.take(min(limit, len(test))), samples.take(min(SAMPLES, len(samples)))
    judge = LabelJudge(model, test, metric_of("top1", label_offset=case.label_offset), Runtime())
    feeds, base = typical_feeds(test, 1), anatomy_of(model)
    found: dict[str, Any] = {
        "model": case.name,
        "n": len(test),
        "samples": len(samples),
        "baseline_accuracy": judge.baseline().value,
        "macs": base.macs,
        "size_bytes": model_file.size_bytes(model),
        "rows": [],
    }
    print(f"\n{case.name}: {100 * found['baseline_accuracy']:.2f} % (n={len(test)}), {base.macs / 1e6:.2f} M MACs")
    print("  method                   asked  MACs  params* size  points  time x predicted layers  seconds")
    for level, method in itertools.product(levels, methods):
        goal = {"latency": level} if method == "mix" else {"macs": level, "verify": False}
        spec = Factorize(**goal, **METHODS[method])
        row = one(spec, model, Context(detect(), samples), judge, base)
        timed = measure_latency({"a": model, "b": row.pop("built")}, feeds, Runtime(), seconds=seconds)
        speedup = timed["b"].speedup
        row["time_share"] = [1 / speedup.high, 1 / speedup.value, 1 / speedup.low]
        found["rows"].append({"method": method, "asked": level, **row})
        print(line(found["rows"][-1]), flush=True)
    return found


def one(spec: Factorize, model: ir.Model, context: Context, judge: LabelJudge, base: Anatomy) -> dict[str, Any]:
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
    texts = (re.match(r"predicted to take (\d+)% of the time", edit.action) for edit in edits)
    return next((int(found.group(1)) / 100 for found in texts if found), None)


def line(row: dict[str, Any]) -> str:
    shares = f"{row['macs_share']:5.0%} {row['parameters_share_of_factorized']:6.0%} {row['size_share']:6.0%}"
    told = f"{row['predicted_time_share']:9.2f}" if row["predicted_time_share"] is not None else " " * 9
    end = f"{row['time_share'][1]:6.2f} {told} {len(row['layers']):7} {row['duration_s']:8.1f}"
    return f"  {row['method']:24} {row['asked']:5.0%} {shares} {-100 * row['drop']:+7.2f} {end}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=list(MODELS), help="parts of model names")
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS), help="shares of the work to keep")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--limit", type=int, default=1000, help="test samples")
    parser.add_argument("--seconds", type=float, default=4.0, help="of latency measurement per row")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today().isoformat()}-low-rank.json")
    args = parser.parse_args()
    done = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    for case in cases(args.only):
        if any(found["model"] == case.name for found in done):
            continue
        done.append(rows_of(case, args.levels, args.limit, args.seconds, args.methods))
        args.out.write_text(json.dumps({"environment": environment(), "results": done}, indent=1, default=str) + "\n")
    print("\n* parameters left in the layers that were factorized.")
    print(f"Written: {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
