"""Accuracy against the work removed by `prune-channels`, without training, on the developer pack.

    python bench/prune_accuracy.py [NAME_PART ...] [--grid] [--limit 2000]

Every row removes a share of the multiply-accumulates and is given at most 256 unlabeled calibration images, none of
them from the test part. By default the recommended settings stand beside plain l1; `--grid` shows every importance
with every way to make up for what is lost. Prints a table per model and saves JSON under `bench/results/`.
"""

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx_ir as ir
from pack import Case, cases

from onnxopt import model_file
from onnxopt.catalog import format_pass
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
MODELS = ("cifar10_resnet20", "cifar10_resnet32", "cifar10_resnet56", "cifar10_ch_resnet20", "cifar10_jpeg")
OTHERS = ("keras_mlperf_resnet8", "kws_ds_cnn", "mobilenetv2")
LEVELS = (0.10, 0.25, 0.40, 0.50)
IMAGES = 256
WIDE = ("resnet9", "mobilenetv2")
"""Models whose layers are wide enough for whole registers; the others are pruned channel by channel."""
SHORT = (("obs", "ls"), ("obs", "none"), ("l1", "ls"), ("l1", "none"))
IMPORTANCES = (
    "obs",
    "l1",
    "l2",
    "linf",
    "geometric-median",
    "bn-scale",
    "act-mean",
    "act-var",
    "taylor",
    "fisher",
    "random",
)
COMPENSATIONS = ("ls", "affine", "bias", "none")


Pairs = Sequence[tuple[str, str]]


def rows_of(case: Case, chosen: Pairs, limit: int, seconds: float, levels: list[float]) -> dict[str, Any]:
    model = model_file.load(case.path)
    test, samples = case.test(), case.calibration()
    test, samples = test.take(min(limit, len(test))), samples.take(min(IMAGES, len(samples)))
    judge = LabelJudge(model, test, Runtime(), metric_of("top1", label_offset=case.label_offset))
    inputs, base = drawn_inputs(test, 1), anatomy_of(model).macs
    block = "auto" if any(part in case.name for part in WIDE) else 1
    found: dict[str, Any] = {
        "model": case.name,
        "n": len(test),
        "images": len(samples),
        "baseline_accuracy": judge.baseline().value,
        "macs": base,
        "rows": [],
    }
    print(f"\n{case.name}: {100 * found['baseline_accuracy']:.2f} % (n={len(test)}), {base / 1e6:.1f} M MACs")
    for (importance, compensate), level in itertools.product(chosen, levels):
        spec = PruneChannels(macs=1 - level, importance=importance, compensate=compensate, round_to=block)
        row = one(spec, model, Context(detect(), samples), judge, base)
        if (importance, compensate) == SHORT[0] and seconds:
            timed = measure_latency({"a": model, "b": row["built"]}, inputs, Runtime(), seconds=seconds)
            row["p50_ratio"] = timed["b"].speedup.value
        del row["built"]
        found["rows"].append({"importance": importance, "compensate": compensate, "asked": level, **row})
        print(line(found["rows"][-1]), flush=True)
    return found


def one(spec: PruneChannels, model: ir.Model, context: Context, judge: LabelJudge, base: int) -> dict[str, Any]:
    start = time.perf_counter()
    optimized = Pipeline((spec,)).run(model, context)
    duration = time.perf_counter() - start
    drop = judge.drop(judge.evaluate(optimized.model))
    return {
        "built": optimized.model,
        "spec": format_pass(spec),
        "macs_removed": 1 - anatomy_of(optimized.model).macs / base,
        "drop": drop.value,
        "proved_difference": optimized.steps[-1].difference,
        "duration_s": round(duration, 1),
    }


def line(row: dict[str, Any]) -> str:
    speed = f"{row['p50_ratio']:.2f}x for {1 / (1 - row['macs_removed']):.2f}x" if "p50_ratio" in row else ""
    what = f"{row['importance']:17} {row['compensate']:7} {row['macs_removed']:4.0%}"
    return f"  {what} {-100 * row['drop']:+7.2f} points {row['duration_s']:6.1f} s  {speed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=[*MODELS, *OTHERS], help="parts of model names")
    parser.add_argument("--grid", action="store_true", help="every importance with every way to make up for losses")
    parser.add_argument("--pairs", nargs="+", help="IMPORTANCE:COMPENSATE, in place of the four usual ones")
    parser.add_argument("--limit", type=int, default=2000, help="test samples")
    parser.add_argument("--seconds", type=float, default=4.0, help="of latency measurement per row; 0 for none")
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS), help="shares of the work to remove")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    args = parser.parse_args()
    out = args.out or RESULTS / f"{date.today().isoformat()}-prune-accuracy{'-grid' if args.grid else ''}.json"
    pairs: Pairs = list(itertools.product(IMPORTANCES, COMPENSATIONS)) if args.grid else list(SHORT)
    if args.pairs:
        pairs = [(importance, compensate) for importance, _, compensate in (p.partition(":") for p in args.pairs)]
    done = []
    for case in cases(args.only):
        done.append(rows_of(case, pairs, args.limit, args.seconds, args.levels))
        out.write_text(json.dumps({"environment": environment(), "results": done}, indent=1, default=str) + "\n")
    print(f"\nWritten: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
