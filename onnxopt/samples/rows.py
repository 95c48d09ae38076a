"""Arrays in memory as samples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.errors import DataError
from onnxopt.model_file import Signature
from onnxopt.samples.archive import let_go
from onnxopt.samples.expect import has_batch_axis
from onnxopt.samples.shapes import shape_hint


@dataclass(frozen=True, eq=False)
class Rows:
    """Arrays whose first axis counts the samples; the runs, if `stacks` is false."""

    name: str
    arrays: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    stacks: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return row `index` of every array; a copy where its place in a mapped file is at odd bytes.

        Pages of rows that were read before leave memory. Whole runs are not stacked, so that their pages stay: a clock
        may run on them.
        """
        if self.stacks:
            for array in self.arrays.values():
                let_go(array, index, array[index : index + 1].nbytes)
        return {key: np.require(array[index, ...], requirements="A") for key, array in self.arrays.items()}


def as_rows(name: str, arrays: Mapping[str, np.ndarray], labels: np.ndarray | None, signature: Signature) -> Rows:
    """Return arrays, one per input, as samples or runs, by their number of axes.

    Arrays with as many axes as the model's inputs hold samples along the first axis, or one run if the model has no
    batch axis. With one axis less they hold one sample; with one more, whole runs along the first axis.

    Raises:
        DataError: ONX203 the numbers of axes or samples fit none of these forms.
    """
    extra = {arrays[s.name].ndim - len(s.shape) for s in signature.inputs if s.shape is not None} or {0}
    counts = {array.shape[:1] for array in arrays.values()}
    batched = has_batch_axis(signature)
    if extra == {0} and batched and len(counts) == 1 and counts != {()}:
        return Rows(name, arrays, labels)
    if extra == {1} and len(counts) == 1:
        return Rows(name, arrays, labels, stacks=False)
    if extra == ({-1} if batched else {0}):
        one_label = None if labels is None else labels if labels.shape[:1] == (1,) else labels[None]
        return Rows(name, {key: array[None] for key, array in arrays.items()}, one_label, stacks=batched)
    raise DataError(
        "ONX203",
        "the axes of the data do not fit the model's inputs",
        where=name,
        why=", ".join(f"{key} has shape {array.shape}" for key, array in arrays.items()),
        hint=_hint(arrays, signature),
    )


def _hint(arrays: Mapping[str, np.ndarray], signature: Signature) -> str:
    spec = signature.inputs[0]
    if len(signature.inputs) == 1 and spec.shape is not None:
        return shape_hint(arrays[spec.name].shape, spec.shape, batch_axis=True)
    wanted = ", ".join(
        f"{spec.name} of shape ({', '.join(['N', *(str(d) if isinstance(d, int) else '1' for d in spec.shape)])})"
        for spec in signature.inputs
        if spec.shape is not None
    )
    return f"Give whole runs along the first axis, such as {wanted}, or a folder with an .npz file per run."
