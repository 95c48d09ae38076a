"""The file of samples that was made, with its first sample as the model sees it."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from onnxopt.document import units
from onnxopt.document.blocks import Column, Displayed, Document, Facts, Table, Text
from onnxopt.samples import Samples


@dataclass(frozen=True)
class FirstInput:
    """One input of the first sample.

    Attributes:
        shape: the shape of a run on this sample alone.
        least: smallest number, None for text or no numbers; likewise `mean` and `most`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    least: float | None
    mean: float | None
    most: float | None


@dataclass(frozen=True)
class SampleFile(Displayed):
    """Samples that were written for a model.

    Attributes:
        path: the .npz file, or a folder with one per sample.
        model: file that they are for; None where it was given in memory.
        count: number of samples.
        size_bytes: the size of everything written, in bytes.
        first: the inputs of the first sample.
        labels: the labels in a few words; "" for none.
        assumed: each assumption about the data, as a sentence.
        notes: further sentences about the result.
    """

    path: Path
    model: Path | None
    count: int
    size_bytes: int
    first: tuple[FirstInput, ...]
    labels: str
    assumed: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def next(self) -> str:
        """The command that uses the samples."""
        model = "MODEL" if self.model is None else shlex.quote(str(self.model))
        return f"onnxopt optimize {model} --data {shlex.quote(str(self.path))}"

    @property
    def check(self) -> str:
        """The command that shows whether the samples are prepared as in training; "" without labels."""
        model = "MODEL" if self.model is None else shlex.quote(str(self.model))
        return f"onnxopt evaluate {model} --data {shlex.quote(str(self.path))}" if self.labels else ""

    @property
    def document(self) -> Document:
        """The first sample as a table, the assumptions, the next command."""
        facts = Facts(
            (
                ("samples", f"{self.count} in {units.size(self.size_bytes)}"),
                ("labels", self.labels or "none: the yardstick is agreement with the baseline"),
            ),
            title=str(self.path),
        )
        numbers = (Column("min", number=True), Column("mean", number=True), Column("max", number=True))
        columns = (Column("input"), Column("type"), Column("shape"), *numbers)
        table = Table(columns, tuple(map(_row, self.first)), title="First sample, as the model sees it")
        check = (f"Is it as accurate on them as in training? {self.check}",) if self.check else ()
        lines = (*self.assumed, *self.notes, *check, f"Next: {self.next}")
        data = {
            "path": str(self.path),
            "model": None if self.model is None else str(self.model),
            "samples": self.count,
            "size_bytes": self.size_bytes,
            "labels": self.labels or None,
            "first_sample": [asdict(one) for one in self.first],
            "assumed": list(self.assumed),
            "notes": list(self.notes),
            "check": self.check,
            "next": self.next,
        }
        return Document((facts, table, Text(lines)), data)


def first_inputs(samples: Samples) -> tuple[FirstInput, ...]:
    """Return shape, type and range of each input of the first sample."""
    feeds = samples.source.read(int(samples.indices[0]))
    return tuple(_input(name, np.asarray(array), batched=samples.source.stacks) for name, array in feeds.items())


def labels_in_words(labels: np.ndarray | None) -> str:
    """Return the number of different labels and their range; "" for none."""
    if labels is None:
        return ""
    if labels.ndim > 1:
        return f"arrays of {'x'.join(map(str, labels.shape[1:]))}"
    if labels.dtype.kind == "f":
        return f"numbers, {units.significant(float(labels.min()))} to {units.significant(float(labels.max()))}"
    found = np.unique(labels)
    return f"{units.many(len(found), 'class', 'classes')}, {found[0]} to {found[-1]}"


def _input(name: str, array: np.ndarray, *, batched: bool) -> FirstInput:
    shape = ((1, *array.shape) if batched else array.shape) or ()
    if array.dtype.kind in "OUS" or not array.size:
        return FirstInput(name, "str" if array.dtype.kind in "OUS" else array.dtype.name, shape, None, None, None)
    numbers = array.astype(np.float64)
    return FirstInput(name, array.dtype.name, shape, float(numbers.min()), float(numbers.mean()), float(numbers.max()))


def _row(one: FirstInput) -> tuple[str, ...]:
    shape = "x".join(map(str, one.shape)) or "scalar"
    figures = ("-" if value is None else units.significant(value) for value in (one.least, one.mean, one.most))
    return (one.name, one.dtype, shape, *figures)
