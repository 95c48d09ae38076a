"""The data that a model expects: batch axis, names, and the wording of messages."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from onnxopt.errors import DataError, nearest
from onnxopt.model_file import Signature

ANY_INPUT = ("x", "X", "data", "input", "inputs", "image", "images", "features", "arr_0", "array", "")
"""Names of the array for a model with a single input, besides the model's own."""

LABEL_KEYS = ("y", "label", "labels", "target")
_SEQUENCE_WORDS = ("seq", "len", "time")


def has_batch_axis(signature: Signature) -> bool:
    """Return whether the first axis of every input counts the samples.

    First axes count the samples if all are dynamic, or all have the same fixed size. Axes with different names, and
    axes named after a sequence, are no batch axes; an input of unknown rank is assumed to have a batch axis.
    """
    if any(spec.shape == () for spec in signature.inputs):
        return False
    first = [spec.shape[0] for spec in signature.inputs if spec.shape]
    # tf2onnx invents a new name for every unknown size.
    named = {d for d in first if isinstance(d, str) and not d.startswith("unk__")}
    fixed = {d for d in first if isinstance(d, int)}
    if any(word in name.lower() for name in named for word in _SEQUENCE_WORDS):
        return False
    if fixed:
        return len(fixed) == 1 and all(isinstance(d, int) for d in first)
    return bool(signature.inputs) and len(named) <= 1


def fixed_batch_size(signature: Signature) -> int | None:
    """Return the fixed number of samples per run; None if it is dynamic or there is no batch axis."""
    sizes = [spec.shape[0] for spec in signature.inputs if spec.shape]
    return sizes[0] if sizes and isinstance(sizes[0], int) and has_batch_axis(signature) else None


@contextmanager
def expecting(signature: Signature) -> Iterator[None]:
    """Add the data that the model expects to the message of every `DataError` raised inside."""
    try:
        yield
    except DataError as error:
        schema = f"expected: {signature}"
        if schema in error.hint or not signature.inputs:
            raise
        hint = f"{error.hint} {schema}".strip()
        raise DataError(error.code, error.what, where=error.where, why=error.why, hint=hint) from error


def by_input(
    arrays: Mapping[str, np.ndarray], signature: Signature, where: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the arrays of the inputs in graph order, and the labels if there are any.

    A model with one input takes the only array also under one of the names in `ANY_INPUT`. Arrays of text without an
    input are notes, such as file names, and are left out.

    Raises:
        DataError: ONX202 an input is missing, or an array belongs to no input.
    """
    inputs = {spec.name: spec for spec in signature.inputs}
    labels = next((arrays[key] for key in LABEL_KEYS if key in arrays and key not in inputs), None)
    given = {key: array for key, array in arrays.items() if key in inputs or key not in LABEL_KEYS}
    if all(spec.dtype != "str" for spec in signature.inputs):
        given = {key: array for key, array in given.items() if key in inputs or array.dtype.kind not in "US"}
    if len(inputs) == 1 and len(given) == 1 and next(iter(given)) in (*inputs, *ANY_INPUT):
        return {next(iter(inputs)): next(iter(given.values()))}, labels
    for name in inputs:
        if name not in given:
            why = f"found {', '.join(sorted(given)) or 'no array'}"
            hint = nearest(name, given) if given else "Name the arrays as the model names its inputs."
            raise DataError("ONX202", f"model input {name!r} is missing from the data", where=where, why=why, hint=hint)
    for key in given:
        if key not in inputs:
            raise DataError(
                "ONX202", f"the model has no input {key!r}", where=where, hint=f"{nearest(key, inputs)} Leave it out."
            )
    return {name: given[name] for name in inputs}, labels
