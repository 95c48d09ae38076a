"""XGBoost and LightGBM: `onnxmltools`."""

from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.exporters.converted import Converted, Outputs, Wanted
from onnxopt.exporters.packages import require, versions
from onnxopt.exporters.sklearn_model import estimated, table_for
from onnxopt.model_file import from_proto
from onnxopt.samples import Feeds

EXTRA = "trees"


def convert(model: Any, wanted: Wanted) -> Converted:
    """Export a booster, or an estimator in scikit-learn's style; a path names LightGBM's `.txt` file.

    Raises:
        UsageError: ONX108 a package is missing.
    """
    tools = require("onnxmltools", EXTRA)
    types = require("onnxmltools.convert.common.data_types", EXTRA)
    if isinstance(model, Path):
        model = require("lightgbm", EXTRA).Booster(model_file=str(model))
    family = type(model).__module__.partition(".")[0]
    columns = model.num_feature() if family == "lightgbm" and not _is_estimator(model) else _columns(model)
    table = table_for(columns, wanted)
    options = {"zipmap": False} if family == "lightgbm" else {}
    proto = getattr(tools, f"convert_{family}")(
        model,
        initial_types=[("input", types.FloatTensorType([None if wanted.dynamic_batch else len(table), columns]))],
        target_opset=wanted.opset,
        **options,
    )
    count = len(proto.graph.output)

    def run(feeds: Feeds) -> Outputs:
        if _is_estimator(model):
            return estimated(model, feeds["input"], count)
        return _boosted(model, feeds["input"], count)

    made = versions(family, f"{family}-cpu", "onnxmltools")
    return Converted(f"onnxmltools ({family})", from_proto(proto), {"input": table}, run, made)


def _boosted(model: Any, table: np.ndarray, count: int) -> Outputs:
    given: Any = table
    if type(model).__module__.startswith("xgboost"):
        given = require("xgboost", EXTRA).DMatrix(table)
    found = np.asarray(model.predict(given))
    if count == 1:
        return [found.reshape(len(table), -1)]
    # The first output is the class, which a booster does not give.
    return [None, np.stack([1 - found, found], axis=1) if found.ndim == 1 else found]


def _is_estimator(model: Any) -> bool:
    return hasattr(model, "get_params")


def _columns(model: Any) -> int:
    return int(model.n_features_in_ if _is_estimator(model) else model.num_features())
