"""Labels, from a file, an array or a column of a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import DataError, first_line
from onnxopt.model_file import Signature
from onnxopt.samples.archive import read_archive, read_array
from onnxopt.samples.columns import cells_to_array
from onnxopt.samples.expect import LABEL_KEYS
from onnxopt.samples.tables import read_table


def class_labels(values: Iterable[object], signature: Signature) -> np.ndarray:
    """Return labels with the class numbers of the model's output.

    Numbers are unchanged. Names become their index among the sorted names, unless the model itself gives names; this is
    right only if the labels contain every class. If a model scores classes at every step, other texts are unchanged:
    they are the true sequences.

    Raises:
        DataError: ONX206 labels are not a sequence, differ in shape, or the number of names is not that of classes.
    """
    try:
        labels = cells_to_array(values if isinstance(values, np.ndarray) else list(values))
    except (TypeError, ValueError) as error:
        raise _no_labels(first_line(error)) from error
    if labels.dtype.kind == "S" or (labels.dtype == object and all(isinstance(label, str) for label in labels.flat)):
        labels = labels.astype(str)
    if labels.dtype == object or labels.ndim == 0:
        raise _no_labels(f"found {labels.dtype} of shape {labels.shape}")
    if labels.dtype.kind == "U" and all(spec.dtype != "str" for spec in signature.outputs):
        names, indices = np.unique(labels, return_inverse=True)
        classes = _class_counts(signature)
        if len(names) not in classes and _reads_sequences(signature):
            return labels
        if classes and len(names) not in classes:
            raise DataError(
                "ONX206",
                "the labels are names, and the model gives class numbers",
                why=f"{len(names)} names ({', '.join(map(repr, names[:3].tolist()))}{', ...' * (len(names) > 3)}) for "
                f"{' or '.join(map(str, sorted(classes)))} classes",
                hint="Give the class number of each sample, counted from 0 in the order of training. Names are "
                "numbered in sorted order only when every class has one.",
            )
        return indices
    return labels


def differ(labels: np.ndarray) -> bool:
    """Return whether labels are arrays of several shapes, which only a user's own metric can read."""
    return labels.dtype == object and labels.size > 0 and isinstance(labels.flat[0], np.ndarray)


def _class_counts(signature: Signature) -> set[int]:
    """Return the possible numbers of classes of the outputs; empty if unknown. A single score means two classes."""
    shapes = [spec.shape for spec in signature.outputs if spec.dtype.startswith(("float", "bfloat"))]
    if any(not shape or (len(shape) > 1 and not isinstance(shape[-1], int)) for shape in shapes):
        return set()
    sizes = {max((size for size in shape[1:] if isinstance(size, int)), default=1) for shape in shapes if shape}
    return {max(size, 2) for size in sizes}


def _reads_sequences(signature: Signature) -> bool:
    """Return whether all outputs of numbers are `(n, steps, classes)`, or time-major."""
    shapes = [spec.shape for spec in signature.outputs if spec.dtype.startswith(("float", "bfloat"))]
    return bool(shapes) and all(shape is not None and len(shape) == 3 and 1 not in shape[1:] for shape in shapes)


def _no_labels(why: str) -> DataError:
    hint = "Give one number or name per sample, all of one shape."
    return DataError("ONX206", "the labels are not an array", why=why, hint=hint)


def read_labels(labels: Any, signature: Signature) -> np.ndarray:
    """Read labels from an array, a list, or a .npy, .npz, .csv, .tsv, .jsonl, .parquet or .txt file (one per line).

    Raises:
        DataError: ONX201 the file is missing or damaged, ONX206 it has no column of labels.
    """
    if not isinstance(labels, str | Path):
        return class_labels(labels, signature)
    path = Path(labels)
    if not path.is_file():
        raise DataError("ONX201", "the label file does not exist", where=str(path), hint="Check the path.")
    if path.suffix == ".npy":
        return class_labels(np.array(read_array(path)), signature)
    table = read_archive(path) if path.suffix == ".npz" else read_table(path)
    column = next((key for key in LABEL_KEYS if key in table), None)
    if column is None and len(table) != 1:
        raise DataError(
            "ONX206",
            "the label file has no label column",
            where=str(path),
            why=f"columns: {', '.join(table)}",
            hint="Name the column `label`.",
        )
    return class_labels(table[column or next(iter(table))], signature)
