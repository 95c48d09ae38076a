"""Samples from a table: numbers, columns named as the inputs, or text to tokenize."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt.errors import DataError, UsageError, nearest
from onnxopt.model_file import Signature
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.columns import cells_to_array
from onnxopt.samples.core import Source
from onnxopt.samples.expect import LABEL_KEYS
from onnxopt.samples.labels import class_labels
from onnxopt.samples.rows import Rows
from onnxopt.samples.tables import Table, read_lines, read_table
from onnxopt.samples.text import from_encoder, named_as_state, open_text, takes_tokens

TEXT_COLUMNS = ("text", "sentence")


def open_table(path: Path, signature: Signature, options: ReadOptions) -> Source:
    """Return the rows of a table as samples.

    Columns named as the model's inputs are these inputs; a text column is the input of a model of tokens; else all
    columns except the label are the features of the model's only input, in the order of the file.

    Raises:
        DataError: ONX201 the file is damaged, ONX202 an input has no column, ONX204 a feature is not a number, ONX205
            there are no rows.
        UsageError: ONX102 a named column does not exist, ONX113 text needs a vocabulary.
    """
    return _opened(dict(read_table(path)), path, signature, options)


def open_lines(path: Path, signature: Signature, options: ReadOptions) -> Source:
    """Return the lines of a text file as samples without labels, for a model of tokens or of text.

    Raises:
        DataError: ONX201 the file is no text, ONX205 it is empty.
        UsageError: ONX113 text needs a vocabulary.
    """
    return _opened({"text": read_lines(path)}, path, signature, options)


def _opened(table: dict[str, Sequence[object]], path: Path, signature: Signature, options: ReadOptions) -> Source:
    name, inputs = str(path), [spec.name for spec in signature.inputs]
    if not next(iter(table.values()), ()):
        raise DataError("ONX205", "there are no samples", where=name, hint="Give at least one row.")
    label_column = _choose(table, options.label_column, [k for k in LABEL_KEYS if k not in inputs], name)
    labels = class_labels(table.pop(label_column), signature) if label_column else None
    text_column = _choose(table, options.text_column, TEXT_COLUMNS, name)
    if text_column and takes_tokens(signature):
        return open_text(name, list(map(str, table[text_column])), labels, signature, options.vocab)
    if all(key in table for key in inputs):
        return Columns(name, {key: table[key] for key in inputs}, labels, signature)
    if len(inputs) == 1:
        return Rows(name, {inputs[0]: _features(table, name, text=signature.inputs[0].dtype == "str")}, labels)
    missing = next(key for key in inputs if key not in table)
    hint = nearest(missing, table)
    if text_column:
        hint = _beside_text(path, signature) or hint
    raise DataError("ONX202", f"no column for model input {missing!r}", where=name, hint=hint)


def _beside_text(path: Path, signature: Signature) -> str:
    """Return the way to inputs that no text has; "" for a model without such inputs."""
    encoded = [one.name for one in signature.inputs if from_encoder(one.name) and "float" in one.dtype]
    kept = [one.name for one in signature.inputs if named_as_state(one.name)]
    if encoded:
        return (
            f"{encoded[0]} comes from an encoder, which no text has: name the folder of encoder and decoders "
            "(onnxopt optimize FOLDER), or give all inputs as arrays (.npz)."
        )
    if kept:
        return (
            f"{kept[0]} and the like are values of earlier steps, which no text has: `onnxopt data {path} --for MODEL "
            "--vocab tokenizer.json -o samples` makes samples with them."
        )
    return ""


@dataclass(frozen=True, eq=False)
class Columns:
    """One column per model input; a cell is a number, a text or a nested list, and lists may differ in length."""

    name: str
    columns: Table
    labels: np.ndarray | None
    signature: Signature
    stacks = True

    def __post_init__(self) -> None:
        # Text cells are converted to numbers once per column, so that all rows are read alike.
        parsed = {k: cells_to_array(c) if isinstance(c[0], str | None) else c for k, c in self.columns.items()}
        object.__setattr__(self, "columns", parsed)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return row `index`; numbers get the model's float type, because a cell has no type."""
        feeds = {}
        for spec in self.signature.inputs:
            try:
                cell = np.asarray(self.columns[spec.name][index])
            except ValueError as error:
                why = "its lists differ in length"
                raise DataError("ONX203", f"{spec.name!r} is not an array", where=self._at(index), why=why) from error
            if cell.dtype == object:
                why = f"the cell is {str(self.columns[spec.name][index])[:40]}"
                raise DataError("ONX204", f"{spec.name!r} holds no numbers", where=self._at(index), why=why)
            if cell.dtype.kind in "iu" and spec.dtype.startswith("float"):
                cell = cell.astype(np.float64)
            if cell.ndim == 0 and spec.shape is not None and len(spec.shape) == 2:
                cell = cell[None]
            feeds[spec.name] = cell
        return feeds

    def _at(self, index: int) -> str:
        return f"{self.name}, sample {index}"


def _choose(table: Table, asked: str | None, usual: Sequence[str], name: str) -> str | None:
    if asked is not None and asked not in table:
        raise UsageError("ONX102", f"there is no column {asked!r}", where=name, hint=nearest(asked, table))
    return asked or next((key for key in usual if key in table), None)


def _features(table: Table, name: str, *, text: bool) -> np.ndarray:
    columns = []
    for key, cells in table.items():
        column = np.asarray(list(map(str, cells))) if text else _numbers(cells)
        if column is None:
            index = next((index for index, cell in enumerate(cells) if _numbers([cell]) is None), 0)
            raise DataError(
                "ONX204",
                f"column {key!r} holds no plain numbers",
                where=name,
                why=f"sample {index} has {str(cells[index])[:40]!r}",
                hint="Mend it, or encode the column as numbers as in training.",
            )
        columns.append(column)
    if not columns:
        raise DataError("ONX202", "there are labels but no features", where=name, hint="Add the feature columns.")
    return np.stack(columns, axis=1)


def _numbers(cells: Sequence[object]) -> np.ndarray | None:
    try:
        column = cells_to_array(cells)
    except ValueError:
        return None
    return column if column.ndim == 1 and column.dtype.kind in "biuf" else None
