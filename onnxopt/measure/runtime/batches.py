"""Runs in batches of the size that a model really takes: some declare a dynamic batch, and run at one sample only."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from onnxopt.errors import NativeError
from onnxopt.measure.runtime.session import Session
from onnxopt.samples import Batch, Samples


def runs(session: Session, samples: Samples) -> Iterator[tuple[Samples, Batch, dict[str, Any]]]:
    """Yield the samples in batches that the model runs, and each batch with its outputs.

    When the first batch fails, single samples are tried.

    Raises:
        NativeError: ONX401 the model cannot be run.
    """
    batches = samples.batches()
    first = next(batches)
    try:
        outputs = session.named(first.feeds)
    except NativeError:
        if samples.batch_size == 1 or samples.fixed_batch:
            raise
        yield from runs(session, samples.with_batch_size(1))
        return
    yield samples, first, outputs
    for batch in batches:
        yield samples, batch, session.named(batch.feeds)


def as_it_runs(session: Session, samples: Samples) -> Samples:
    """Return the samples, at a fixed batch size of one where the model takes no more; raises like `runs`."""
    found, _, _ = next(runs(session, samples))
    return samples if found is samples else replace(found, fixed_batch=True)
