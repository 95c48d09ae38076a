"""Verification of an exported model against its source."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError, OnnxoptError, first_line
from onnxopt.exporters.converted import Converted, Outputs
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import check
from onnxopt.samples import Feeds

TOLERANCE = 1e-3
"""Of an output's largest magnitude; exporters fold constants and sum in another order."""

ROWS = (1, 3)
"""Batch sizes that an open batch axis is tried at."""


@dataclass(frozen=True)
class Verified:
    """The result of the comparison.

    Attributes:
        difference: the largest of any output, relative to that output's largest magnitude.
        batches: batches that were compared.
        rows_apart: largest difference between a row computed alone and among others; None for a fixed batch.
    """

    difference: float
    batches: int
    rows_apart: float | None


def verify(model: ir.Model, converted: Converted, *, dynamic_batch: bool, tolerance: float, seed: int) -> Verified:
    """Check the graph and compare it with the source on its example and on shuffled copies of it.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load it, ONX305 it is invalid, ONX312 its outputs are others.
    """
    check(model)
    session = Session(model, Runtime())
    batches = _batches(converted.example, dynamic_batch, seed)
    worst = 0.0
    hint = "Try --fixed-batch." if dynamic_batch else ""
    for feeds in batches:
        expected = _of_source(converted, feeds, hint)
        try:
            found = session.run(feeds)
        except NativeError as error:
            raise ModelError(
                "ONX312", "the exported model does not run", where=_sizes(feeds), why=error.why, hint=hint
            ) from error
        if len(found) != len(expected):
            why = f"{len(found)} instead of {len(expected)}"
            raise ModelError("ONX312", "the exported model has another number of outputs", why=why)
        for name, ours, theirs in zip(session.output_names, found, expected, strict=True):
            if theirs is None:
                continue
            difference = _difference(name, np.asarray(theirs), np.asarray(ours))
            if difference > tolerance:
                raise ModelError(
                    "ONX312",
                    "the exported model gives other outputs than its source",
                    where=f"output {name}",
                    why=f"they differ by {difference:.2g} of the largest magnitude at {_sizes(feeds)}",
                    hint="Try another --exporter or --opset; if the difference is fine, raise --tolerance.",
                )
            worst = max(worst, difference)
    return Verified(worst, len(batches), _rows_apart(session, batches[-1]) if dynamic_batch else None)


def _of_source(converted: Converted, feeds: Feeds, hint: str) -> Outputs:
    try:
        return converted.run(feeds)
    except OnnxoptError:
        raise
    except Exception as error:  # frameworks raise whatever they like
        raise ModelError(
            "ONX312", "the source does not run", where=_sizes(feeds), why=first_line(error).rstrip("."), hint=hint
        ) from error


def _batches(example: Feeds, dynamic_batch: bool, seed: int) -> list[Feeds]:
    """Return the example, its values shuffled, and for an open batch axis further sizes of it."""
    rng = np.random.RandomState(seed)
    # Shuffled, values stay in the range the model is made for: token numbers stay token numbers.
    shuffled = {name: rng.permutation(array.ravel()).reshape(array.shape) for name, array in example.items()}
    batches: list[Feeds] = [dict(example), shuffled]
    if dynamic_batch:
        batches += [{name: _resized(array, rows) for name, array in shuffled.items()} for rows in ROWS]
    return batches


def _resized(array: np.ndarray, rows: int) -> np.ndarray:
    return array if array.ndim == 0 or len(array) == 0 else array[np.arange(rows) % len(array)]


def _rows_apart(session: Session, feeds: Feeds) -> float:
    """Return by how much the rows of a batch depend on each other."""
    together, worst, rows = session.run(feeds), 0.0, ROWS[-1]
    for row in range(rows):
        alone = session.run({n: a[row : row + 1] if a.ndim else a for n, a in feeds.items()})
        for name, one, many in zip(session.output_names, alone, together, strict=True):
            if np.ndim(many) and len(many) == rows:
                worst = max(worst, _difference(name, np.asarray(many[row : row + 1]), np.asarray(one)))
    return worst


def _difference(name: str, expected: np.ndarray, found: np.ndarray) -> float:
    if expected.size != found.size or (expected.ndim and expected.shape[:1] != found.shape[:1]):
        why = f"{list(found.shape)} instead of {list(expected.shape)}"
        raise ModelError("ONX312", "the exported model gives another shape", where=f"output {name}", why=why)
    found = found.reshape(expected.shape)
    if expected.dtype.kind != "f" or found.dtype.kind != "f":
        return 0.0 if (expected.astype(found.dtype) == found).all() else float("inf")
    a, b = expected.astype(np.float64), found.astype(np.float64)
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    apart = np.abs(a - b).max() / max(float(np.abs(a).max()), 1e-6)
    return float(apart) if np.isfinite(apart) else float("inf")


def _sizes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
