"""The entry point for data: it converts every supported form to samples that fit the model."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import DataError, FileError, UsageError, first_line
from onnxopt.model_file import Signature
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.archive import read_archive, read_array
from onnxopt.samples.boxes import is_box_labels, read_boxes
from onnxopt.samples.core import Samples, Source
from onnxopt.samples.expect import by_input, expecting, fixed_batch_size
from onnxopt.samples.fit import fit
from onnxopt.samples.folder import open_folder
from onnxopt.samples.labels import class_labels, differ, read_labels
from onnxopt.samples.masks import is_mask_folder, read_masks
from onnxopt.samples.named import open_digits, open_random
from onnxopt.samples.rows import as_rows
from onnxopt.samples.stream import open_stream, reader_items, to_arrays
from onnxopt.samples.table_source import open_lines, open_table
from onnxopt.samples.tables import TABLE_SUFFIXES
from onnxopt.samples.text import takes_text

FORMS = (
    "a .npz or .npy file; a folder of .npz files, of images, of sound or of ONNX test data; a .csv, .tsv, .jsonl or "
    ".parquet table; for a model of text a .txt file, one sentence per line; digits, digits:train, random or random:N; "
    "in Python also arrays, a mapping of them, an iterable of samples or batches, a DataLoader or a "
    "CalibrationDataReader"
)


def open_samples(
    data: object,
    signature: Signature,
    *,
    labels: object = None,
    options: ReadOptions | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
) -> Samples:
    """Return the samples in `data`, converted to the model's types and shapes.

    Args:
        data: a path, a word such as `digits`, or a Python object; see `FORMS`.
        signature: signature of the model.
        labels: one per sample, as an array, a list or a file; None takes the labels in `data`.
        options: options of the readers.
        batch_size: samples per run; None takes the model's fixed size, or as many as 2 MB hold, at most 32.
        limit: most samples: the first ones of a stream, else a choice spread evenly over the data, because files are
            often sorted by class.

    Raises:
        DataError: ONX201 unknown or damaged data, ONX202 to ONX207 it does not fit the model.
        FileError: ONX503, ONX505 the disk failed.
        UsageError: ONX101, ONX102, ONX108, ONX109, ONX112 or ONX113, see `ReadOptions`.
    """
    options = options or ReadOptions()
    if limit is not None and limit < 1:
        raise UsageError("ONX101", "the limit must be 1 or more", why=f"got {limit}", hint="Give at least 1.")
    if isinstance(data, Samples) and (labels is not None or options.label_offset):
        raise UsageError("ONX109", "these samples come with their labels", where=data.name, hint="Give no others.")
    with expecting(signature), _disk(data):
        _refuse_unfeedable(signature, data)
        source = data if isinstance(data, Source | Samples) else _open(data, signature, options, limit)
        given: np.ndarray | None = None
        if isinstance(labels, str | Path) and is_mask_folder(labels):
            given = read_masks(labels, source, options)
        elif isinstance(labels, str | Path) and is_box_labels(labels):
            given = read_boxes(labels, source, options)
        elif labels is not None:
            given = read_labels(labels, signature)
        own = source.labels
        if given is None and own is not None and own.dtype.kind in "OSU" and not differ(own):
            given = class_labels(own, signature)
        _refuse_missing(own if given is None else given, source.name)
        if options.label_offset and not (isinstance(labels, str | Path) and is_box_labels(labels)):
            given = _shifted(source.labels if given is None else given, options.label_offset, source.name)
        samples = fit(source, signature, labels=given, batch_size=batch_size)
        if limit is None or limit >= len(samples):
            return samples
        return samples.select(samples.indices[np.arange(limit) * len(samples) // limit])


def _refuse_unfeedable(signature: Signature, data: object) -> None:
    made = isinstance(data, Source | Samples) or str(data).partition(":")[0] == "random"
    if not signature.inputs and not made:
        raise DataError(
            "ONX203",
            "the model has no inputs, so there are no samples for it",
            hint="Leave them out, or give `random`, which runs it without any.",
        )
    for spec in signature.inputs:
        if spec.dtype == "object":
            raise DataError(
                "ONX204",
                "the model takes a sequence or a map, which samples cannot hold",
                where=spec.name,
                hint="Cut the model behind that input: samples are tensors.",
            )
    if fixed_batch_size(signature) == 0:
        raise DataError(
            "ONX203",
            "the model takes no sample at a time",
            where=signature.inputs[0].name,
            why="its first axis is 0",
            hint="Export it again with a dynamic batch axis.",
        )


@contextmanager
def _disk(data: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError("ONX505", "the data cannot be read", where=str(data), why=why) from error


def _open(data: object, signature: Signature, options: ReadOptions, limit: int | None) -> Source:
    if isinstance(data, str | Path):
        return _open_named(data, signature, options, limit)
    name = f"Python {type(data).__name__}"
    if isinstance(data, Mapping) or hasattr(data, "shape") or _is_arrays(data):
        return as_rows(name, *to_arrays(data, signature, name), signature)
    items: Any = reader_items(data) if hasattr(data, "get_next") else data
    if isinstance(items, Iterable) or (hasattr(items, "__getitem__") and hasattr(items, "__len__")):
        return open_stream(name, items, signature, options.memory_mb << 20, limit)
    raise DataError("ONX201", "this object holds no samples", where=name, hint=f"Accepted: {FORMS}.")


def _is_arrays(data: object) -> bool:
    return isinstance(data, tuple) and bool(data) and all(hasattr(part, "shape") for part in data)


def _open_named(data: str | Path, signature: Signature, options: ReadOptions, limit: int | None) -> Source:
    word, path = str(data), Path(data)
    if word in ("digits", "digits:train"):
        return open_digits(word, signature)
    if word == "random" or word.startswith("random:"):
        return open_random(word, signature, options)
    if word and path.is_dir():
        return open_folder(path, signature, options, limit)
    if path.is_file() and path.suffix in (".npz", ".npy"):
        arrays = read_archive(path) if path.suffix == ".npz" else {"array": read_array(path)}
        return as_rows(word, *by_input(arrays, signature, word), signature)
    if path.is_file() and path.suffix in TABLE_SUFFIXES:
        return open_table(path, signature, options)
    if path.is_file() and path.suffix == ".txt" and takes_text(signature):
        return open_lines(path, signature, options)
    what = "the file is in no known format" if word and path.exists() else "there is no data by this name"
    raise DataError("ONX201", what, where=word, hint=f"Accepted: {FORMS}.")


def _refuse_missing(labels: np.ndarray | None, where: str) -> None:
    if labels is None or labels.dtype.kind != "f" or not labels.size or np.isfinite(labels).all():
        return
    index = int(np.argmin(np.isfinite(labels).reshape(len(labels), -1).all(axis=1)))
    raise DataError(
        "ONX207",
        "the labels hold NaN or an infinite value",
        where=f"{where}, sample {index}",
        hint="Leave out samples without a label.",
    )


def _shifted(labels: Any, offset: int, name: str) -> np.ndarray:
    if labels is None or labels.dtype.kind not in "iu":
        raise UsageError("ONX112", "label_offset needs labels that are whole numbers", where=name)
    return np.asarray(labels + offset)
