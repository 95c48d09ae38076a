"""Accuracy and time without some residual blocks, with and without linear maps in their place, without training.

    python bench/prune_blocks.py [NAME_PART ...] [--counts 2 4] [--out FILE.json]
    python bench/prune_blocks.py --table FILE.json

Blocks are chosen and maps fitted on at most 256 unlabeled calibration samples, of which none is in the test part. The
result is simplified, as users do. Time is as called. Saves JSON under `bench/results/`; `--table` prints what is there.
"""

import argparse
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pack import cases

from onnxopt import model_file
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
METHODS = ("none", "affine", "ls")
SAMPLES = 256


def table(found: Mapping[str, Any]) -> str:
    """Return what was measured as a Markdown table."""
    lines = ["| model (n) | removed | `none` | `affine` | `ls` |", "|---|---|--:|--:|--:|"]
    for one in found["results"]:
        for count in dict.fromkeys(row["count"] for row in one["rows"]):
            cells = {
                r["compensate"]: f"{100 * r['drop']:.1f}, {r['speedup'][1]:.2f}x"
                for r in one["rows"]
                if r["count"] == count
            }
            shown = " | ".join(cells[method] for method in METHODS)
            lines.append(f"| {one['model']} ({one['n']}) | {count} | {shown} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=["cifar10_jpeg_resnet56"])
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--limit", type=int, default=1000, help="test samples")
    parser.add_argument("--seconds", type=float, default=3.0, help="of latency measurement per row")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-prune-blocks.json")
    parser.add_argument("--table", type=Path, help="print this record, measure nothing")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return 0
    done = list[dict[str, Any]]()
    for case in cases(args.only):
        model = model_file.load(case.path)
        test, samples = case.test(), case.calibration()
        test, samples = test.take(min(args.limit, len(test))), samples.take(min(SAMPLES, len(samples)))
        judge = LabelJudge(model, test, Runtime(), metric_of("top1", label_offset=case.label_offset))
        inputs, rows = drawn_inputs(test, 1), list[dict[str, Any]]()
        done.append({"model": case.name, "n": len(test), "baseline": judge.baseline().value, "rows": rows})
        for count in args.counts:
            for method in METHODS:
                passes = (PruneBlocks(count=count, compensate=method, samples=SAMPLES), Simplify())
                optimized = Pipeline(passes).run(model, Context(detect(), samples))
                timed = measure_latency({"a": model, "b": optimized.model}, inputs, Runtime(), seconds=args.seconds)
                speedup = timed["b"].speedup
                row = {"count": count, "compensate": method, "drop": judge.drop(judge.evaluate(optimized.model)).value}
                rows.append({**row, "speedup": [speedup.low, speedup.value, speedup.high]})
                print(case.name, rows[-1], flush=True)
                args.out.write_text(json.dumps({"results": done, "environment": environment()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
