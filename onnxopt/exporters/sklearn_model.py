"""scikit-learn: `skl2onnx`."""

from typing import Any

import numpy as np

from onnxopt.exporters.converted import Converted, Outputs, Wanted, arrays_of, made_up_input
from onnxopt.exporters.packages import require, versions
from onnxopt.model_file import from_proto
from onnxopt.samples import Feeds

EXTRA = "sklearn"


def convert(estimator: Any, wanted: Wanted) -> Converted:
    """Export a fitted estimator or pipeline that takes one table of numbers; class scores come as one array.

    Raises:
        UsageError: ONX108 a package is missing.
    """
    skl2onnx = require("skl2onnx", EXTRA)
    table = table_for(estimator.n_features_in_, wanted)
    rows = None if wanted.dynamic_batch else len(table)
    kind = skl2onnx.common.data_types.FloatTensorType([rows, table.shape[1]])
    proto = skl2onnx.convert_sklearn(
        estimator,
        initial_types=[("input", kind)],
        # Scores as an array, not as one dictionary per row, which nothing but Python can read.
        options={id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None,
        target_opset=wanted.opset,
    )

    def run(feeds: Feeds) -> Outputs:
        return estimated(estimator, feeds["input"], len(proto.graph.output))

    return Converted("skl2onnx", from_proto(proto), {"input": table}, run, versions("scikit-learn", "skl2onnx"))


def estimated(estimator: Any, table: np.ndarray, count: int) -> Outputs:
    """Return the outputs of an estimator for `table`, in the order in which converters write the `count` outputs."""
    if hasattr(estimator, "predict_proba"):
        return [np.asarray(estimator.predict(table)), np.asarray(estimator.predict_proba(table))]
    if _classifies(estimator):
        return [np.asarray(estimator.predict(table)), None]
    if hasattr(estimator, "predict"):
        found = np.asarray(estimator.predict(table))
        return [found.reshape(len(table), -1), *[None] * (count - 1)]
    return [np.asarray(estimator.transform(table))]


def table_for(columns: int, wanted: Wanted) -> np.ndarray:
    """Return the example table as floats of 32 bits, as which the exported model reads it."""
    if wanted.inputs is None:
        return made_up_input([64, columns], "float32", wanted.seed)
    return np.asarray(arrays_of(wanted.inputs)[0], dtype=np.float32)


def _classifies(estimator: Any) -> bool:
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return hasattr(last, "classes_")
