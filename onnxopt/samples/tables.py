"""Tables in text and Parquet files, as columns of cells."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from onnxopt.errors import DataError, first_line
from onnxopt.extras import READING, require
from onnxopt.files import open_regular
from onnxopt.samples.columns import is_number

Table = Mapping[str, Sequence[object]]
"""Cells of each column, all columns equally long."""

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_table(path: Path) -> Table:
    """Return the columns of a .csv, .tsv, .jsonl or .parquet file; the lines of any other file as column `label`.

    A first line without numbers and empty cells is a header. Without a header, two columns are `text` and `label`.

    Raises:
        DataError: ONX201 the file is damaged, or its rows differ in length.
        UsageError: ONX108 pyarrow is not installed.
    """
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                return _read_jsonl(file, path)
            if path.suffix == ".csv":
                return _read_rows(csv.reader(file, strict=True), path)
            if path.suffix == ".tsv":
                return _read_rows(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), path)
            return {"label": file.read().split()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, first_line(error)) from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, without the ends of lines and without empty ones.

    Raises:
        DataError: ONX201 the file is no text.
    """
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, first_line(error)) from error


def _read_rows(lines: Iterable[list[str]], path: Path) -> Table:
    rows = [row for row in lines if row]
    if not rows:
        return {}
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise _damaged(path, f"row {number} has {len(row)} cells, the first row has {width}")
    if any(is_number(cell) or not cell for cell in rows[0]):
        names = ["text", "label"] if width == 2 and not is_number(rows[0][0]) else [str(i) for i in range(width)]
    else:
        names = rows.pop(0)
        if len(set(names)) < width:
            raise _damaged(path, "two columns have the same name")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _read_jsonl(lines: Iterable[str], path: Path) -> Table:
    columns: dict[str, list[object]] = {}
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise _damaged(path, f"line {number}: {first_line(error)}") from error
        if not isinstance(row, dict):
            raise _damaged(path, f"line {number} is not a JSON object")
        if first:
            columns, first = {key: [] for key in row}, False
        if row.keys() != columns.keys():
            raise _damaged(path, f"line {number} has other keys than the first: {', '.join(row)}")
        for key, cell in row.items():
            columns[key].append(cell)
    return columns


def _read_parquet(path: Path) -> Table:
    parquet = require("pyarrow.parquet", "tables", READING)
    try:
        with open_regular(path) as file:
            columns: Table = parquet.read_table(file).to_pydict()
    except Exception as error:  # pyarrow has its own exceptions, and some are OSError
        raise _damaged(path, first_line(error)) from error
    return columns


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        "ONX201",
        "not a readable table",
        where=str(path),
        why=why,
        hint="Give UTF-8 text with the same cells in every row.",
    )
