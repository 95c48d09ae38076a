"""The signal-to-noise ratio of static INT8 with weights of 8 bits, of 7, and as wide as neighbours allow.

    python bench/saturation.py [--out FILE] [NAME_PART ...]

Each model of the developer pack is quantized from the same samples for x86 without VNNI, where sums of two products
saturate at 16 bits. The ratio, in decibels, is that of the outputs on other samples beside those of the float model: as
the file says, and as such a processor computes it (simulated, so that every processor gives the same figures). Exit
code 1 when a file that is made not to saturate does.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pack import Case, cases

from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import load
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.diagnosis.simulation import simulate
from onnxopt.samples import Samples
from onnxopt.target import target_of

RESULTS = Path(__file__).parent / "results"
FORMS = {"8 bits": "no", "7 bits": "yes", "as described": "auto"}
SAMPLES = 100


def measured(case: Case) -> dict[str, Any]:
    """Return decibels and the number of saturating layers for each form of one model."""
    context = Context(target_of("x86-avx2"), case.calibration())
    model = Pipeline((Simplify(),)).run(load(case.path), context).model
    tested, runtime = case.test().take(SAMPLES).with_batch_size(1), Runtime(threads=1)
    right = _answers(model, tested, runtime)
    row: dict[str, Any] = {"model": case.name}
    for name, reduced in FORMS.items():
        made = Pipeline((QuantizeStatic(method="entropy", reduce_range=reduced),)).run(model, context).model
        written, computed = (simulate(made, target_of(target), runtime) for target in ("x86-vnni", "x86-avx2"))
        ratios = [_decibels(right, _answers(each.model, tested, each.runtime)) for each in (written, computed)]
        row[name] = {"written": ratios[0], "computed": ratios[1], "saturating": len(computed.saturating)}
    return row


def _answers(model: ir.Model, samples: Samples, runtime: Runtime) -> np.ndarray:
    session = Session(model, runtime)
    return np.stack([np.concatenate([np.ravel(each) for each in session.run(feeds)]) for feeds in samples])


def _decibels(right: np.ndarray, other: np.ndarray) -> float:
    return round(float(10 * np.log10(np.square(right).sum() / np.square(right - other).sum())), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", default=("jpeg_resnet20", "sst2", "ds_cnn_l", "squeezenet", "mobilenetv2"))
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-saturation.json")
    options = parser.parse_args()
    rows = list[dict[str, Any]]()
    print(f"| model | {' | '.join(FORMS)} |\n|---|{'--:|' * len(FORMS)}")
    for case in cases(options.only):
        row = measured(case)
        rows.append(row)
        cells = (f"{row[name]['written']:.1f}, {row[name]['computed']:.1f}" for name in FORMS)
        print(f"| {row['model']} | {' | '.join(cells)} |", flush=True)
        record = {"environment": environment(Runtime(threads=1)), "samples": SAMPLES, "rows": rows}
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(row[name]["saturating"] for row in rows for name in ("7 bits", "as described")))


if __name__ == "__main__":
    raise SystemExit(main())
