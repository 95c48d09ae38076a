"""Pruning masks given by the user."""

from pathlib import Path

import numpy as np

from onnxopt.errors import DataError, FileError, UsageError, nearest
from onnxopt.graph.edit import tensor_in
from onnxopt.graph.weights.sparsity import Refused, Weight
from onnxopt.samples.archive import read_archive


def removed_by_masks(text: str, weights: list[Weight], refused: list[Refused]) -> dict[str, np.ndarray]:
    """Read an .npz file of 0/1 masks; return the elements of each weight that become zero, by name.

    Raises:
        UsageError: ONX102 a mask does not belong to a prunable weight.
        DataError: ONX201 the file has no masks, ONX203 or ONX204 a mask has a wrong shape or value.
        FileError: ONX501 the file does not exist, ONX505 it cannot be read.
    """
    path = Path(text).expanduser()
    if not path.exists():
        raise FileError("ONX501", "the file of masks does not exist", where=text, hint="Check the path.")
    masks = read_archive(path)
    if not masks:
        raise DataError("ONX201", "the file holds no masks", where=text, hint="Save one array per weight.")
    known = {w.value.name or "": w for w in weights}
    reasons = {r.value.name: r.reason for r in refused if r.value is not None}
    for name, mask in masks.items():
        if name not in known:
            hint = nearest(name, known) if known else "Nothing in this model can be pruned."
            what, why = "a mask is not for a weight that can be pruned", reasons.get(name, "")
            raise UsageError("ONX102", what, where=name, why=why, hint=hint)
        _check(name, mask, tuple(tensor_in(known[name].value).shape.numpy()))
    return {name: mask == 0 for name, mask in masks.items()}


def _check(name: str, mask: np.ndarray, shape: tuple[int, ...]) -> None:
    if mask.shape != shape:
        raise DataError(
            "ONX203",
            "a mask has another shape than its weight",
            where=name,
            why=f"{mask.shape}, the weight {shape}",
            hint="Save it in the layout of the ONNX file; frameworks may store the transpose.",
        )
    if mask.dtype.kind not in "biuf" or not ((mask == 0) | (mask == 1)).all():
        raise DataError(
            "ONX204", "a mask holds other values than 0 and 1", where=name, hint="Save 0 to remove, 1 to keep."
        )
