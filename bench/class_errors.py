"""The shift of the scores of each class by INT8, in trained classifiers, in units of the spread of its scores.

    python bench/class_errors.py [NAME ...] [--samples 300]

It is what the limit in `onnxopt.measure.tasks.table.lost` is chosen by: good INT8 files must stay far below it.
Prints a line per file, and saves all as JSON in `bench/results/`.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pack import Case, cases

import onnxopt
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Session
from onnxopt.measure.tasks.table.columns import column_rows, relative_errors
from onnxopt.measure.tasks.table.lost import LOST

MODELS = ("cifar10_jpeg_resnet20", "tf_kws_ds_cnn_l", "text_sst2_bert_l2_d192", "mobilenetv2_1.0_224_nchw")
FORMS = ("simplify,quantize-static", "simplify,quantize-static{method=percentile}", "quantize-dynamic")


def measured(case: Case, samples: int) -> Iterator[dict[str, Any]]:
    """Yield for each form of a model the errors of its classes, relative to their spread."""
    context = onnxopt.Context(onnxopt.target_of("auto"), case.calibration().take(128))
    baseline, test = onnxopt.load(case.path), case.test().take(samples).with_batch_size(1)
    for form in FORMS:
        made = onnxopt.Pipeline(onnxopt.parse_passes(form)).run(baseline, context).model
        sessions = [Session(model, onnxopt.Runtime()) for model in (baseline, made)]
        runs = [[np.ravel(session.run(feeds)[0]) for session in sessions] for feeds in test]
        before, after = np.asarray(runs, np.float64).swapaxes(0, 1)
        rows = column_rows(before[:, None], after[:, None])
        errors = relative_errors(rows, np.ones((1, len(rows))))
        same = (before.argmax(axis=1) == after.argmax(axis=1)).mean()
        found = {"worst": float(errors.max()), "median": float(np.median(errors)), "same_top1": float(same)}
        yield {"model": case.name, "form": form, "n": len(test), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=MODELS)
    parser.add_argument("--samples", type=int, default=300)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / f"{date.today()}-class-errors.json")
    options = parser.parse_args()
    print(f"a class is lost from an error of {LOST}")
    rows = list[dict[str, Any]]()
    for case in cases(options.names):
        for row in measured(case, options.samples):
            rows.append(row)
            figures = f"worst class {row['worst']:.2f}, median {row['median']:.2f}, same top-1 {row['same_top1']:.3f}"
            print(f"{row['model']}, {row['form']}: {figures}", flush=True)
            record = {"limit": LOST, "rows": rows, "environment": environment()}
            options.out.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
