"""Fidelity: the agreement of a candidate's outputs with the baseline's. It needs no labels, and it is not accuracy."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxopt.errors import ModelError
from onnxopt.measure.accuracy import Progress
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.outputs import (
    Outputs,
    as_probabilities,
    class_scores,
    is_float,
    is_map,
    non_finite_rows,
)
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.samples import Batch, Samples
from onnxopt.samples.core import Array


@dataclass(frozen=True, eq=False)
class OutputFidelity:
    """Agreement of one float output of two models.

    Attributes:
        name: name of the output.
        top1_agreement: share of samples with the same highest column; None if the output is not a table of columns.
        cosine: mean over samples of the cosine similarity.
        sqnr_db: signal to quantization noise, baseline power over error power, in decibels; infinite when equal.
        kl: mean Kullback-Leibler divergence from the baseline's class probabilities, in nats; None if the output is not
            a table of columns.
        max_abs_error: largest difference of one element.
        rows: per sample: same highest column (0/1), cosine, signal power, error power, KL, largest difference.
    """

    name: str
    top1_agreement: float | None
    cosine: float
    sqnr_db: float
    kl: float | None
    max_abs_error: float
    rows: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Agreement of a candidate with the baseline, per float output.

    Attributes:
        outputs: the outputs in graph order.
        n: samples compared.
        non_finite: samples where the candidate gave NaN or an infinity.
    """

    outputs: tuple[OutputFidelity, ...]
    n: int
    non_finite: int


def fidelity(
    baseline: Loadable | Session,
    candidate: Loadable | Session,
    samples: Samples,
    runtime: Runtime,
    *,
    progress: Progress | None = None,
) -> Fidelity:
    """Compare every float output of two models on `samples`, one batch in memory at a time; Ctrl-C stops it.

    Raises:
        ModelError: ONX304 a model cannot be loaded, ONX308 their outputs differ in name.
        NativeError: ONX401 a model cannot be run.
    """

    def work() -> Fidelity:
        first = baseline if isinstance(baseline, Session) else Session(baseline, runtime)
        second = candidate if isinstance(candidate, Session) else Session(candidate, runtime)
        rows: dict[str, list[Array]] = {}
        done = non_finite = 0
        for batch, before, after in run_both(first, second, samples):
            size = sample_count(batch)
            done += size
            non_finite += non_finite_rows(after, size, None)
            for name in before:
                pair = tensors(name, before, after, size)
                if pair is not None:
                    rows.setdefault(name, []).append(_rows(*pair, _is_table(before[name])))
            if progress is not None:
                progress(done, len(samples))
        return Fidelity(tuple(_summary(name, np.concatenate(r)) for name, r in rows.items()), done, non_finite)

    return interruptible(work)


def run_both(
    baseline: Session | KnownOutputs, candidate: Session | KnownOutputs, samples: Samples
) -> Iterator[tuple[Batch, Outputs, Outputs]]:
    """Run both models batch by batch, at the batch size that both can run; known outputs are compared with themselves.

    Raises:
        ModelError: ONX308 their outputs differ in name.
        NativeError: ONX401 a model cannot be run.
    """
    if baseline.output_names != candidate.output_names:
        raise _other_outputs(f"{', '.join(baseline.output_names)} against {', '.join(candidate.output_names)}")
    for batch, before in run_batches(baseline, samples):
        yield batch, before, before if isinstance(candidate, KnownOutputs) else candidate.named(batch.feeds)


def sample_count(batch: Batch) -> int:
    """Return the number of independent samples in a batch; without labels, the first axis of its inputs."""
    if batch.size is not None:
        return batch.size
    if batch.labels is not None:
        return len(batch.labels)
    first = next(iter(batch.feeds.values()))
    return len(first) if np.ndim(first) else 1


def tensors(name: str, before: Outputs, after: Outputs, size: int) -> tuple[Array, Array] | None:
    """Return float output `name` of both models as `(samples, elements)` float64; None if it is not a float output.

    An output without the batch axis, such as all detections of an image, counts as one sample.
    """
    one, other = _tensor(before[name]), _tensor(after[name])
    if one is None or other is None:
        return None
    if one.ndim and len(one) == size and other.ndim and len(other) == size:
        return one.reshape(size, -1), other.reshape(size, -1)
    return one.reshape(1, -1), other.reshape(1, -1)


def _tensor(value: Any) -> Array | None:
    if is_map(value):
        scores = class_scores({"": value}, None)
        return None if scores is None else scores.values
    return np.asarray(value, dtype=np.float64) if is_float(value) else None


def powers(one: Array, other: Array) -> tuple[Array, Array]:
    """Return the sums of squares of `one` and of the difference, per sample.

    Outputs of different shape, such as another number of detections, differ by the whole of `one`.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        signal = (one**2).sum(axis=1)
        if one.shape != other.shape:
            return signal, np.maximum(signal, (other**2).sum(axis=1))
        return signal, ((one - other) ** 2).sum(axis=1)


def _other_outputs(why: str) -> ModelError:
    hint = "Compare a model with one made from it."
    return ModelError("ONX308", "the two models do not have the same outputs", why=why, hint=hint)


def _rows(one: Array, other: Array, columns: bool) -> Array:
    signal, error = powers(one, other)
    nothing = np.full(len(one), np.nan)
    if one.shape != other.shape:
        return np.column_stack((nothing, np.zeros(len(one)), signal, error, nothing, np.sqrt(error)))
    same, divergence = (_same_class(one, other), _kl(one, other)) if columns else (nothing, nothing)
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(one - other).max(axis=1, initial=0)
    return np.column_stack((same, _cosine(one, other), signal, error, divergence, largest))


def _is_table(value: Any) -> bool:
    scores = class_scores({"": value}, None)
    return scores is not None and scores.values.ndim == 2


def _same_class(one: Array, other: Array) -> Array:
    same: Array = one.argmax(axis=1) == other.argmax(axis=1)
    return np.asarray(same & ~np.isnan(other).any(axis=1), dtype=np.float64)


def _cosine(one: Array, other: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosine = (one * other).sum(axis=1) / norms
    same = np.all(one == other, axis=1)
    return np.asarray(np.where(same, 1.0, np.where(norms == 0, 0.0, cosine)))


def _kl(one: Array, other: Array) -> Array:
    tiny = np.finfo(np.float64).tiny
    p, q = as_probabilities(one), as_probabilities(other)
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(p > 0, p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny))), 0.0)
    return np.asarray(terms.sum(axis=1))


def _summary(name: str, rows: Array) -> OutputFidelity:
    same, cosine, signal, error, divergence, largest = rows.T
    columns = not np.isnan(same).any()
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr_db = float("inf") if not error.any() else float(10 * np.log10(signal.sum() / error.sum()))
    return OutputFidelity(
        name,
        float(same.mean()) if columns else None,
        float(cosine.mean()),
        sqnr_db,
        float(divergence.mean()) if columns else None,
        float(largest.max()),
        rows,
    )
