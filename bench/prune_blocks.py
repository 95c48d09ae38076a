"""Accuracy and time without some residual blocks, with and without linear maps in their place, without training.

    python bench/prune_blocks.py [NAME_PART ...] [--counts 2 4] [--out FILE.json]
    python bench/prune_blocks.py --digits --out FILE.json
    python bench/prune_blocks.py --table FILE.json

Blocks are chosen and maps fitted on at most 256 unlabeled calibration samples, of which none is in the test part. The
result is simplified, as users do. Time is as called. Saves JSON under `bench/results/`; `--table` prints what is there.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx_ir as ir
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
from onnxopt.samples import Samples, open_samples
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
METHODS = ("none", "affine", "ls")
SAMPLES = 256
BUNDLED = Path(__file__).parents[1] / "models"
DIGITS = {"digits_resnet": (1, 2), "digits_vit": (1, 2, 4), "digits_jax": (1,)}


def shown(row: Mapping[str, Any]) -> str:
    """Return the points lost and the speed-up; the latter is unsure beside other work."""
    speed = f"{row['speedup'][1]:.2f}x" if "speedup" in row else "unsure"
    return f"{100 * row['drop']:.1f}, {speed}"


def table(found: Mapping[str, Any]) -> str:
    """Return what was measured as a Markdown table."""
    lines = ["| model (n) | removed | `none` | `affine` | `ls` |", "|---|---|--:|--:|--:|"]
    for one in found["results"]:
        for count in dict.fromkeys(row["count"] for row in one["rows"]):
            cells = {r["compensate"]: shown(r) for r in one["rows"] if r["count"] == count}
            line = " | ".join(cells[method] for method in METHODS)
            lines.append(f"| {one['model']} ({one['n']}) | {count} | {line} |")
    return "\n".join(lines)


Subject = tuple[str, ir.Model, Samples, Samples, int, Sequence[int]]


def subjects(args: argparse.Namespace) -> Iterator[Subject]:
    """Yield name, model, test and calibration samples, label offset, and numbers of blocks to remove."""
    for name, counts in DIGITS.items() if args.digits else ():
        model = model_file.load(BUNDLED / f"{name}.onnx")
        signature = model_file.signature_of(model)
        yield name, model, open_samples("digits", signature), open_samples("digits:train", signature), 0, counts
    for case in () if args.digits else cases(args.only):
        yield case.name, model_file.load(case.path), case.test(), case.calibration(), case.label_offset, args.counts


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=["cifar10_jpeg_resnet56"])
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--digits", action="store_true", help="the bundled models, in place of the pack's")
    parser.add_argument("--limit", type=int, default=1000, help="test samples")
    parser.add_argument("--seconds", type=float, default=3.0, help="of latency measurement per row")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-prune-blocks.json")
    parser.add_argument("--table", type=Path, help="print this record, measure nothing")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return 0
    done = list[dict[str, Any]]()
    for name, model, every, calibration, offset, counts in subjects(args):
        test, samples = every.take(min(args.limit, len(every))), calibration.take(min(SAMPLES, len(calibration)))
        judge = LabelJudge(model, test, Runtime(), metric_of("top1", label_offset=offset))
        inputs, rows = drawn_inputs(test, 1), list[dict[str, Any]]()
        done.append({"model": name, "n": len(test), "baseline": judge.baseline().value, "rows": rows})
        for count in counts:
            for method in METHODS:
                passes = (PruneBlocks(count=count, compensate=method, samples=SAMPLES), Simplify())
                optimized = Pipeline(passes).run(model, Context(detect(), samples))
                timed = measure_latency({"a": model, "b": optimized.model}, inputs, Runtime(), seconds=args.seconds)
                speedup = timed["b"].speedup
                row = {"count": count, "compensate": method, "drop": judge.drop(judge.evaluate(optimized.model)).value}
                if speedup is not None:
                    row["speedup"] = [speedup.low, speedup.value, speedup.high]
                rows.append(row)
                print(name, row, flush=True)
                args.out.write_text(json.dumps({"results": done, "environment": environment()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
