"""Runs of a model on samples, and the outputs of the baseline, which every candidate is compared with."""

from collections.abc import Callable, Iterator

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.measure.runtime.batches import runs
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file.heap import trim_heap
from onnxopt.samples import Batch, Samples

MOST_BYTES = 1 << 26
"""Outputs above this are computed again for every candidate."""


class KnownOutputs:
    """Outputs of one model, computed once for the same samples; the session is closed once it has computed them all.

    Args:
        opened: loads the model.
    """

    def __init__(self, opened: Callable[[], Session]) -> None:
        self._opened = opened
        self._session: Session | None = opened()
        self.output_names, self.metadata = self._session.output_names, self._session.metadata
        self._of: Samples | None = None
        self._in: Samples | None = None
        self._kept = list[Outputs]()
        self._size = 0.0

    def batches(self, samples: Samples) -> Iterator[tuple[Batch, Outputs]]:
        """Yield batches with their outputs, which must not be changed; raises like `run_batches`."""
        if self._of is not None and self._in is not None and _same(self._of, samples):
            yield from zip(self._in.batches(), self._kept, strict=True)
            return
        self._of, self._kept = None, []
        session = self._session = self._session or self._opened()
        kept, size = list[Outputs](), 0.0
        for self._in, batch, outputs in runs(session, samples):
            size += _size(outputs)
            if size <= MOST_BYTES:
                kept.append(_frozen(outputs))
            else:
                kept.clear()
            yield batch, outputs
        self._size = size
        if size <= MOST_BYTES:
            self._of, self._kept, self._session = samples, kept, None
            trim_heap()

    def outgrown_by(self, share: float) -> bool:
        """Return whether the outputs are kept, and those of `share` times as many samples would not be."""
        return self._size <= MOST_BYTES < share * self._size

    def close(self) -> None:
        """Drop the session and the outputs; the next call computes them again."""
        self._of, self._kept, self._session = None, [], None


def run_batches(session: Session | KnownOutputs, samples: Samples) -> Iterator[tuple[Batch, Outputs]]:
    """Run `samples` batch by batch.

    Raises:
        NativeError: ONX401 the model cannot be run, one sample at a time either.
    """
    if isinstance(session, KnownOutputs):
        yield from session.batches(samples)
        return
    for _, batch, outputs in runs(session, samples):
        yield batch, outputs


def _same(one: Samples, other: Samples) -> bool:
    return (one.source, one.batch_size) == (other.source, other.batch_size) and np.array_equal(
        one.indices, other.indices
    )


def _size(outputs: Outputs) -> float:
    arrays = all(isinstance(value, np.ndarray) and value.dtype.kind in "fiubV" for value in outputs.values())
    return sum(value.nbytes for value in outputs.values()) if arrays else float("inf")


def _frozen(outputs: Outputs) -> Outputs:
    for value in outputs.values():
        value.flags.writeable = False
    return outputs
