"""Conversion of data to the types and shapes of a model, with errors for data that does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.samples.core import Samples, Source
from onnxopt.samples.expect import by_input, expecting, fixed_batch_size
from onnxopt.samples.shapes import fits, shape_hint

_MOST_PER_RUN = 32
"""The largest default batch size."""
_RUN_BYTES = 1 << 21
"""The largest size of the inputs of a default batch: three images of 224 pixels."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A source that checks and converts its samples when they are read."""

    source: Source
    signature: Signature
    labels: np.ndarray | None

    @property
    def name(self) -> str:
        """The user's name of the data."""
        return self.source.name

    @property
    def stacks(self) -> bool:
        """Whether a sample lacks the batch axis."""
        return self.source.stacks

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return sample `index`, ready for the model.

        Raises:
            DataError: ONX202, ONX203, ONX204 or ONX207, each with the data that the model expects.
        """
        where = f"{self.name}, sample {index}"
        with expecting(self.signature):
            feeds, _ = by_input(self.source.read(index), self.signature, where)
            return {s.name: _fit_array(feeds[s.name], s, self.stacks, where) for s in self.signature.inputs}


def fit(
    data: Source | Samples, signature: Signature, *, labels: np.ndarray | None = None, batch_size: int | None = None
) -> Samples:
    """Return the samples of `data`, checked against the model: the first one now, the others when they are read.

    A model with a fixed batch size gets exactly that many samples per run; samples that do not fill the last run are
    left out. Otherwise a run takes `batch_size` samples, by default as many as 2 MB hold, at most 32; pass 1 for a
    model that declares a dynamic batch but runs only at 1.

    Args:
        data: source of the samples.
        signature: signature of the model.
        batch_size: samples per run.
        labels: one per sample of the source, in place of its own.

    Raises:
        DataError: ONX202 to ONX207, each with the data that the model expects.
        UsageError: ONX101 the batch size is below 1 or differs from the model's fixed one.
    """
    if isinstance(data, Samples):
        whole = fit(data.source, signature, labels=labels, batch_size=batch_size)
        return (whole if batch_size else whole.with_batch_size(data.batch_size)).select(data.indices)
    fixed = fixed_batch_size(signature) if data.stacks else None
    if batch_size is not None and (batch_size < 1 or batch_size != (fixed or batch_size)):
        why = f"the model takes exactly {fixed} samples at a time" if fixed else "it must be at least 1"
        raise UsageError("ONX101", f"batch size {batch_size} does not work", where=data.name, why=why)
    with expecting(signature):
        fitted = Fitted(data, signature, data.labels if labels is None else labels)
        samples = Samples.of(fitted, fixed or batch_size or 1, fixed_batch=fixed is not None)
        first = fitted.read(0)
    return samples if fixed or batch_size else samples.with_batch_size(_per_run(first))


def _per_run(sample: Mapping[str, np.ndarray]) -> int:
    """Return the default batch size for samples of this size."""
    size = sum(array.nbytes for array in sample.values())
    return min(max(_RUN_BYTES // max(size, 1), 1), _MOST_PER_RUN)


def _fit_array(array: np.ndarray, spec: TensorSpec, stacks: bool, where: str) -> np.ndarray:
    array = np.asarray(array)  # one of a row of texts is a text
    shape = spec.shape[1:] if stacks and spec.shape else spec.shape
    if shape is not None and not fits(array.shape, shape):
        raise DataError(
            "ONX203",
            f"{spec.name!r} has another shape than the model expects",
            where=where,
            why=f"a {'sample' if stacks else 'run'} has shape {array.shape}",
            hint=shape_hint(array.shape, shape, batch_axis=not stacks),
        )
    converted = _convert(array, spec, image_like=array.ndim - (not stacks) > 1, where=where)
    if _is_float(converted.dtype) and not np.isfinite(converted).all():
        bad = "NaN" if np.isnan(converted).any() else "an infinite value"
        raise DataError("ONX207", f"{spec.name!r} holds {bad}", where=where, hint="Repair this sample or leave it out.")
    return converted


def _convert(array: np.ndarray, spec: TensorSpec, *, image_like: bool, where: str) -> np.ndarray:
    """Cast an array if no information is lost; floats may be rounded to the model's precision.

    Pixels are not converted to floats: the model needs them scaled, and only its owner knows how.
    """
    hint = f"Convert it, for example with .astype({spec.dtype!r})."
    if spec.dtype == "str" and array.dtype.kind in "USO":
        return array.astype(object)
    if spec.dtype not in ("str", "object") and array.dtype.kind not in "USOMmc":
        wanted = np.dtype(spec.dtype)
        if array.dtype == wanted:
            return array
        from_float, to_float = _is_float(array.dtype), _is_float(wanted)
        if from_float and to_float:
            with np.errstate(over="ignore"):
                return array.astype(wanted)
        if to_float and (array.dtype == np.uint8 or (image_like and array.dtype != bool)):
            hint = "Scale pixels as in training, for example x.astype('float32') / 255."
        elif not from_float:
            with np.errstate(over="ignore"):
                cast = array.astype(wanted)
            if np.array_equal(cast, array):
                return cast
            hint = f"Some values do not fit {spec.dtype}."
    raise DataError(
        "ONX204",
        f"{spec.name!r} has another type than the model expects",
        where=where,
        why=f"{array.dtype}, not {spec.dtype}",
        hint=hint,
    )


def _is_float(dtype: np.dtype) -> bool:
    # The kind of bfloat16 and the 8-bit floats, which NumPy knows from ml_dtypes, is not "f".
    return dtype.kind == "f" or "float" in dtype.name
