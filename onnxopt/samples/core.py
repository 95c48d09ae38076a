"""Samples: a re-iterable, streamed sequence of model inputs, with labels if there are any."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from onnxopt.errors import DataError

Array = np.ndarray
"""An array of any type and shape."""
Feeds = Mapping[str, Array]
"""One batch, keyed by model input name."""


@runtime_checkable
class Source(Protocol):
    """Random access to single samples; the result of every reader."""

    @property
    def name(self) -> str:
        """The user's name of the data: a path, or a word such as `digits`."""

    @property
    def labels(self) -> np.ndarray | None:
        """One label per sample, or None."""

    @property
    def stacks(self) -> bool:
        """Whether a sample lacks the batch axis and is stacked; else it is a whole batch."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Feeds:
        """Return the inputs of sample `index`, keyed by model input name."""


@dataclass(frozen=True)
class Batch:
    """Inputs for one run, and the labels of the samples in it.

    Attributes:
        size: number of independent samples: a whole run counts as one; None takes the first axis.
    """

    feeds: Feeds
    labels: np.ndarray | None
    size: int | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """A choice of samples of one source, read batch by batch; iterating again starts again.

    Only one batch is in memory. Samples of different shapes never share a batch.

    Args:
        source: source of the samples.
        indices: indices of the samples, in order of iteration.
        batch_size: samples per run; a source of whole batches yields one batch per run.
        fixed_batch: whether the model runs exactly `batch_size` samples at a time. Then samples that would not fill the
            last batch are left out, also of the count and the labels, and `with_batch_size` has no effect.
    """

    source: Source
    indices: np.ndarray
    batch_size: int = 1
    fixed_batch: bool = False

    @classmethod
    def of(cls, source: Source, batch_size: int = 1, *, fixed_batch: bool = False) -> "Samples":
        """Return all samples of `source`.

        Raises:
            DataError: ONX205 the source is empty or too small, ONX206 labels and samples differ in number.
        """
        count = len(source)
        if not count:
            raise DataError("ONX205", "there are no samples", where=source.name, hint="Give at least one sample.")
        if source.labels is not None and len(source.labels) != count:
            raise DataError(
                "ONX206",
                "labels and samples differ in number",
                where=source.name,
                why=f"{len(source.labels)} labels for {count} samples",
                hint="Give one label per sample, in the same order.",
            )
        return cls(source, np.arange(0), batch_size, fixed_batch).select(np.arange(count))

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Feeds]:
        return (batch.feeds for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """Read the samples in order, `batch_size` at a time.

        Raises:
            DataError: ONX203 samples of different shapes do not fill a batch of fixed size.
        """
        pending: list[Feeds] = []
        start = 0
        limit = self.batch_size if self.source.stacks else 1
        for position, index in enumerate(self.indices):
            sample = self.source.read(int(index))
            if pending and (len(pending) == limit or not _same_shapes(pending[0], sample)):
                yield self._batch(pending, start)
                pending, start = [], position
            pending.append(sample)
        if pending:
            yield self._batch(pending, start)

    def _batch(self, samples: Sequence[Feeds], start: int) -> Batch:
        labels = None if self.labels is None else self.labels[start : start + len(samples)]
        if not self.source.stacks:
            return Batch(samples[0], labels, 1)
        if self.fixed_batch and len(samples) < self.batch_size:
            raise DataError(
                "ONX203",
                "samples of different shapes cannot share a run",
                where=self.name,
                why=f"the model takes exactly {self.batch_size} samples at a time",
                hint="Bring all samples to one shape.",
            )
        return Batch({key: np.stack([s[key] for s in samples]) for key in samples[0]}, labels, len(samples))

    @property
    def selection(self) -> tuple[int, bytes]:
        """Batch size and indices: equal where the same samples of one source come in the same runs."""
        return self.batch_size, self.indices.tobytes()

    @property
    def name(self) -> str:
        """The user's name of the data."""
        return self.source.name

    @cached_property
    def labels(self) -> np.ndarray | None:
        """One label per sample, in the order of iteration, or None."""
        return None if self.source.labels is None else np.asarray(self.source.labels)[self.indices]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every input and label, for the run record."""
        digest = hashlib.sha256(b"".join(self.digests))
        if self.labels is not None:
            digest.update(_bytes(self.labels))
        return digest.hexdigest()

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """SHA-256 of the inputs of each sample, in the order of iteration; reads all samples once."""
        found = []
        for index in self.indices:
            digest = hashlib.sha256()
            for key, array in sorted(self.source.read(int(index)).items()):
                digest.update(f"{key}{array.dtype}{array.shape}".encode())
                digest.update(_bytes(array))
            found.append(digest.digest())
        return tuple(found)

    def with_batch_size(self, batch_size: int) -> "Samples":
        """Return the same samples in batches of another size; a batch size fixed by the model is kept."""
        return self if self.fixed_batch else replace(self, batch_size=batch_size)

    def take(self, count: int) -> "Samples":
        """Return the first `count` samples (all if there are fewer), rounded up to whole runs of fixed size."""
        if self.fixed_batch:
            count = -(-count // self.batch_size) * self.batch_size
        return self.select(self.indices[:count])

    def split(self, counts: Sequence[int], seed: int) -> tuple["Samples", ...]:
        """Return disjoint parts of `counts` samples, drawn at random.

        Raises:
            DataError: ONX205 there are too few samples.
        """
        if sum(counts) > len(self):
            raise DataError(
                "ONX205",
                "too few samples",
                where=self.name,
                why=f"{sum(counts)} needed, {len(self)} there",
                hint="Give more samples.",
            )
        order = np.random.RandomState(seed).permutation(self.indices)
        ends = np.cumsum(counts)
        return tuple(self.select(order[end - n : end]) for n, end in zip(counts, ends, strict=True))

    def select(self, indices: np.ndarray) -> "Samples":
        """Return the samples at `indices` of the source, without those that do not fill a batch of fixed size.

        Raises:
            DataError: ONX205 there are too few for a batch of fixed size.
        """
        count = len(indices)
        if self.fixed_batch:
            count -= count % self.batch_size
            if not count and len(indices):
                raise DataError(
                    "ONX205",
                    "too few samples for one run",
                    where=self.name,
                    why=f"the model takes exactly {self.batch_size} at a time; there are {len(indices)}",
                    hint="Give more samples.",
                )
        return replace(self, indices=indices[:count])

    def reader(self) -> "Reader":
        """Return the samples as an ONNX Runtime `CalibrationDataReader`."""
        return Reader(self)


def _same_shapes(one: Feeds, other: Feeds) -> bool:
    return one.keys() == other.keys() and all(one[k].shape == other[k].shape for k in one)


def _bytes(array: np.ndarray) -> bytes:
    # The memory of an object array holds addresses, which differ between processes.
    if array.dtype == object:
        return "\0".join(map(str, array.ravel())).encode()
    return np.ascontiguousarray(array).tobytes()


class Reader:
    """Duck-typed `onnxruntime.quantization.CalibrationDataReader` over samples."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None at the end."""
        feeds = next(self._iterator, None)
        return None if feeds is None else dict(feeds)

    def rewind(self) -> None:
        """Start again."""
        self._iterator = iter(self._samples)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (dict(feeds) for feeds in self._samples)
