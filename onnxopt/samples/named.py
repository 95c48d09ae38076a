"""Data by name: the digits of scikit-learn, and random numbers."""

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from onnxopt.errors import DataError, UsageError
from onnxopt.extras import READING, require
from onnxopt.model_file import Signature, probe_feeds
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.expect import has_batch_axis
from onnxopt.samples.pixels import with_image_size
from onnxopt.samples.rows import Rows

TRAIN_COUNT = 1000
RANDOM_COUNT = 64


def open_digits(name: str, signature: Signature) -> Rows:
    """Return the handwritten digits of scikit-learn, 64 pixels in 0..1, in the shape of the model's input.

    `digits` is the test part (797), `digits:train` the rest (1000); always the same split.

    Raises:
        DataError: ONX203 the model does not take 64 numbers per sample.
        UsageError: ONX108 scikit-learn is not installed.
    """
    bunch = require("sklearn.datasets", "digits", READING).load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.data))
    part = order[:TRAIN_COUNT] if name == "digits:train" else order[TRAIN_COUNT:]
    pixels = (bunch.data[part] / 16).astype(np.float32)
    spec = signature.inputs[0] if len(signature.inputs) == 1 else None
    if spec is not None and has_batch_axis(signature) and "float" in spec.dtype:
        sizes = [-1] if spec.shape is None else [d if isinstance(d, int) else -1 for d in spec.shape[1:]]
        # NumPy computes one unknown size, and refuses shapes that 64 pixels do not fill.
        with suppress(ValueError):
            return Rows(name, {spec.name: pixels.reshape(len(pixels), *sizes)}, bunch.target[part])
    raise DataError(
        "ONX203",
        "the model does not take digits of 64 pixels",
        where=name,
        why="it needs one float input with a batch axis and 64 numbers per sample",
        hint="Use data of your own.",
    )


class Drawn(ABC):
    """Samples that are drawn when they are read; sample i is drawn with seed i."""

    signature: Signature
    count: int

    @property
    def stacks(self) -> bool:
        """Whether a sample lacks the batch axis."""
        return has_batch_axis(self.signature)

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Draw sample `index`."""
        feeds = self._feeds(index)
        return {name: array[0] for name, array in feeds.items()} if self.stacks else feeds

    @abstractmethod
    def _feeds(self, seed: int) -> dict[str, np.ndarray]:
        """Draw one batch of one sample."""


@dataclass(frozen=True)
class Random(Drawn):
    """Random inputs: standard normal floats, integers 0 or 1."""

    name: str
    signature: Signature
    count: int
    labels: None = None

    def _feeds(self, seed: int) -> dict[str, np.ndarray]:
        return probe_feeds(self.signature, seed=seed)


def open_random(name: str, signature: Signature, options: ReadOptions) -> Random:
    """Return `random` (64 samples) or `random:N`; free sizes of an image are `options.size`, or usual ones.

    Raises:
        UsageError: ONX101 N is not a positive number.
    """
    _, _, count = name.partition(":")
    if count and not (count.isdecimal() and int(count)):
        raise UsageError("ONX101", "random:N needs a positive number N", where=name, hint="For example random:64.")
    return Random(name, with_image_size(signature, options), int(count) if count else RANDOM_COUNT)
