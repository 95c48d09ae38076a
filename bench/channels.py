"""The gain of channels of zeros in integer convolutions, and of shortcuts that are one convolution.

    python bench/channels.py [--seconds 6] [--out FILE] [NAME_PART ...]

Static INT8 of each image model of the developer pack, with channels of zeros where `quantize-static` adds them, beside
the same model without; and the simplified float model beside one whose shortcuts stay several operators. One thread,
interleaved, as called. Exit code 1 when the two INT8 models differ.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx_ir as ir
from pack import Case, cases

from onnxopt.graph import merge
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import load
from onnxopt.passes import quantize_static
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
INPUTS = 16
NAMES = ("resnet", "mobilenet", "squeezenet")


def measured(case: Case, seconds: float) -> dict[str, Any]:
    """Return the speed-ups of one model, with their intervals, and whether both INT8 models are equal."""
    model, samples = load(case.path), case.calibration().with_batch_size(1)
    feeds = list(samples.take(INPUTS))
    context = Context(detect(), samples)
    with patch.object(merge, "write_shortcuts", return_value=[]):
        parts = Pipeline((Simplify(),)).run(model, context).model
        with patch.object(quantize_static, "align_all", return_value=[]):
            plain = Pipeline((Simplify(), QuantizeStatic())).run(model, context).model
        aligned = Pipeline((Simplify(), QuantizeStatic())).run(model, context).model
    whole = Pipeline((Simplify(),)).run(model, context).model
    both = Pipeline((Simplify(), QuantizeStatic())).run(model, context).model
    row: dict[str, Any] = {"model": case.name, "equal": _equal(plain, aligned, feeds)}
    for name, before, after in (("shortcuts", parts, whole), ("channels", plain, aligned), ("both", plain, both)):
        if [n.op_type for n in before.graph] == [n.op_type for n in after.graph]:
            continue
        timed = measure_latency({"before": before, "after": after}, feeds, Runtime(threads=1), seconds=seconds)
        speed = timed["after"].speedup
        row[name] = None if speed is None else [round(number, 3) for number in (speed.value, speed.low, speed.high)]
    return row


def _equal(first: ir.Model, second: ir.Model, feeds: list[Any]) -> bool:
    sessions = [Session(model, Runtime(threads=1)) for model in (first, second)]
    answers = [[session.run(feed) for feed in feeds] for session in sessions]
    return all(
        np.array_equal(a, b) for one, other in zip(*answers, strict=True) for a, b in zip(one, other, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=NAMES, help="parts of model names")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing per row")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-channels.json")
    options = parser.parse_args()
    rows = list[dict[str, Any]]()
    print("| model | float, shortcuts | INT8, channels of zeros | INT8, both | equal |\n|---|---|---|---|---|")
    for case in cases(options.only):
        row = measured(case, options.seconds)
        rows.append(row)
        cells = [_cell(row.get(name, "-")) for name in ("shortcuts", "channels", "both")]
        print(f"| {row['model']} | {' | '.join(cells)} | {'yes' if row['equal'] else 'no'} |", flush=True)
        record = {"environment": environment(Runtime(threads=1)), "rows": rows}
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return int(not all(row["equal"] for row in rows))


def _cell(speed: Any) -> str:
    return speed if isinstance(speed, str) else "unsure" if speed is None else "{:.2f}x [{:.2f}, {:.2f}]".format(*speed)


if __name__ == "__main__":
    raise SystemExit(main())
