"""Python objects that yield samples or batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from onnxopt.errors import DataError, OnnxoptError, first_line
from onnxopt.model_file import Signature
from onnxopt.samples.expect import by_input
from onnxopt.samples.rows import as_rows
from onnxopt.samples.spool import Spool


def open_stream(
    name: str, items: Iterable[object], signature: Signature, limit_bytes: int, limit: int | None = None
) -> Spool:
    """Read `items` once and store at most `limit` samples.

    An item is a sample or a batch: a mapping, a tuple of the inputs (and then the label), or the only input. Batches
    are split into samples if the model has a batch axis.

    Raises:
        DataError: ONX201 the iteration fails, ONX202, ONX203, ONX204 an item does not fit, ONX206 labels do not.
        FileError: ONX503 the temporary file cannot be written.
    """
    spool = Spool(name, limit_bytes)
    labels: list[np.ndarray] = []
    labelled: set[bool] = set()
    for position, item in enumerate(_guarded(items, name)):
        rows = as_rows(f"{name}, item {position}", *to_arrays(item, signature, f"{name}, item {position}"), signature)
        labelled.add(rows.labels is not None)
        if len(labelled) > 1 or (rows.labels is not None and len(rows.labels) != len(rows)):
            why = "some items have labels and some have none" if len(labelled) > 1 else ""
            found = why or f"{0 if rows.labels is None else len(rows.labels)} labels for {len(rows)} samples"
            raise DataError("ONX206", "the labels do not fit the samples", where=rows.name, why=found)
        if len(spool) and rows.stacks != spool.stacks:
            why = "some items hold samples and some hold whole runs"
            raise DataError("ONX203", "the items differ in kind", where=rows.name, why=why)
        spool.stacks = rows.stacks
        for index in range(len(rows)):
            spool.append(rows.read(index))
            if rows.labels is not None:
                labels.append(np.array(rows.labels[index]))
            if len(spool) == limit:
                break
        if len(spool) == limit:
            break
    if labels:
        if len({label.shape for label in labels}) > 1:
            spool.labels = np.empty(len(labels), dtype=object)
            spool.labels[:] = labels
        else:
            spool.labels = np.stack(labels)
    return spool


def reader_items(reader: Any) -> Iterator[object]:
    """Yield the batches of an ONNX Runtime `CalibrationDataReader`, up to its None."""
    while (item := reader.get_next()) is not None:
        yield item


def _guarded(items: Any, name: str) -> Iterator[object]:
    try:
        if hasattr(items, "__getitem__") and hasattr(items, "__len__") and not hasattr(items, "__iter__"):
            yield from (items[i] for i in range(len(items)))
        else:
            yield from items
    except OnnxoptError:
        raise
    except Exception as error:  # any exception of the user's own code
        why = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(
            "ONX201", "reading the data failed", where=name, why=why, hint="Repair the iterator."
        ) from error


def to_arrays(item: object, signature: Signature, where: str) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the inputs and labels in one item.

    Raises:
        DataError: ONX202 the number or names of the arrays do not fit, ONX204 the item holds no arrays.
    """
    inputs = [spec.name for spec in signature.inputs]
    label: object = None
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], Mapping):
        item, label = item
    if isinstance(item, Mapping):
        arrays, own = by_input({str(k): _array(v, where) for k, v in item.items()}, signature, where)
        return arrays, own if label is None else _array(label, where)
    parts = list(item) if _is_positional(item) else [item]
    if len(parts) not in (len(inputs), len(inputs) + 1):
        raise DataError(
            "ONX202",
            "the data has more or fewer arrays than the model has inputs",
            where=where,
            why=f"{len(parts)} arrays; the model has {len(inputs)} inputs, and a label may follow",
            hint="Give a mapping of input names to arrays.",
        )
    arrays = {key: _array(part, where) for key, part in zip(inputs, parts, strict=False)}
    return arrays, _array(parts[-1], where) if len(parts) > len(inputs) else None


def _is_positional(item: object) -> TypeGuard[Sequence[object]]:
    return isinstance(item, tuple) or (isinstance(item, list) and any(hasattr(part, "shape") for part in item))


def _array(value: Any, where: str) -> np.ndarray:
    """Return a number, list, NumPy array or tensor of any framework as an array, without importing the framework."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.asarray(value)
    except Exception as error:  # ragged lists, tensors that NumPy cannot hold
        why = first_line(error)
        raise DataError("ONX204", "an item holds something that is not an array", where=where, why=why) from error
    if array.dtype == object:
        if array.size and all(isinstance(cell, str) for cell in array.flat):
            return array.astype(str)
        why = f"found {type(value).__name__}"
        raise DataError("ONX204", "an item holds something that is not an array", where=where, why=why)
    return array
