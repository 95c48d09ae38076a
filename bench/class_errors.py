"""The shift of the scores of each class by INT8, in trained classifiers, in units of the spread of its scores.

    python bench/class_errors.py [NAME ...] [--samples 300]

It is what the limit in `onnxopt.measure.tasks.table.lost` is chosen by: good INT8 files must stay far below it.
"""

import argparse

import numpy as np
from pack import cases

import onnxopt
from onnxopt.measure.runtime.session import Session
from onnxopt.measure.tasks.table.columns import column_rows, relative_errors
from onnxopt.measure.tasks.table.lost import LOST

MODELS = ("cifar10_jpeg_resnet20", "tf_kws_ds_cnn_l", "text_sst2_bert_l2_d192", "mobilenetv2_1.0_224_nchw")
FORMS = ("simplify,quantize-static", "simplify,quantize-static{method=percentile}", "quantize-dynamic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=MODELS)
    parser.add_argument("--samples", type=int, default=300)
    arguments = parser.parse_args()
    print(f"a class is lost from an error of {LOST}")
    for case in cases(arguments.names):
        context = onnxopt.Context(onnxopt.target_of("auto"), case.calibration().take(128))
        baseline, test = onnxopt.load(case.path), case.test().take(arguments.samples).with_batch_size(1)
        for form in FORMS:
            made = onnxopt.Pipeline(onnxopt.parse_passes(form)).run(baseline, context).model
            sessions = [Session(model, onnxopt.Runtime()) for model in (baseline, made)]
            runs = [[np.ravel(session.run(feeds)[0]) for session in sessions] for feeds in test]
            before, after = np.asarray(runs, np.float64).swapaxes(0, 1)
            rows = column_rows(before[:, None], after[:, None])
            errors = relative_errors(rows, np.ones((1, len(rows))))
            same = (before.argmax(axis=1) == after.argmax(axis=1)).mean()
            shown = f"worst class {errors.max():.2f}, median {np.median(errors):.2f}, same top-1 {same:.3f}"
            print(f"{case.name}, {form}: {shown}", flush=True)


if __name__ == "__main__":
    main()
