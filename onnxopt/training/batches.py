"""Samples of each training step, determined by the seed and the step, so that a resumed run is identical."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.batches import as_it_runs
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Samples
from onnxopt.samples.core import Batch
from onnxopt.training.augment import augmented


@dataclass(frozen=True)
class Batches:
    """Samples in a new random order each epoch.

    Attributes:
        samples: samples to draw from.
        batch_size: samples per step, of all processes together.
        seed: the seed of the order and of the augmentations.
        augmentations: names, see `onnxopt.training.augment`.
        rank: number of this process.
        world: processes that share each batch.
    """

    samples: Samples
    batch_size: int
    seed: int
    augmentations: Sequence[str] = ()
    rank: int = 0
    world: int = 1

    @property
    def per_epoch(self) -> int:
        """Steps in which as many samples are seen as there are."""
        return max(1, round(len(self.samples) / self.batch_size))

    def at(self, step: int) -> Iterator[Batch]:
        """Yield the samples of one step here: one batch, or several where the model or the shapes allow no larger."""
        positions = self._positions(step)[self.rank :: self.world]
        if not len(positions):
            return
        rng = np.random.default_rng([self.seed, 1, step, self.rank])
        chosen = self.samples.select(self.samples.indices[positions]).with_batch_size(self.batch_size)
        for batch in chosen.batches():
            feeds = augmented(batch.feeds, self.augmentations, rng) if self.augmentations else batch.feeds
            yield Batch(feeds, batch.labels)

    def _positions(self, step: int) -> np.ndarray:
        count, wanted = len(self.samples), self.batch_size
        start = step * wanted
        found: list[np.ndarray] = []
        while wanted:
            epoch, offset = divmod(start, count)
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(count)
            found.append(order[offset : offset + wanted])
            wanted -= len(found[-1])
            start += len(found[-1])
        return np.concatenate(found)


def in_batches(model: ir.Model, samples: Samples, batch_size: int) -> Samples:
    """Return the samples in batches of a size, or one at a time where the model, whatever it declares, takes no more.

    Raises:
        ModelError: ONX304 the model cannot be loaded.
        NativeError: ONX401 it runs on no sample.
    """
    wanted = samples.with_batch_size(min(batch_size, max(2, len(samples))))
    return as_it_runs(Session(model, Runtime(optimization="none")), wanted)


def split_held_out(samples: Samples, share: float, seed: int, most: int = 512) -> tuple[Samples, Samples] | None:
    """Return samples to learn from and samples to judge by; None where there are too few for both."""
    held = min(most, max(round(share * len(samples)), min(8, len(samples) // 3)))
    if held < 1 or len(samples) - held < 2:
        return None
    learned, judged = samples.split((len(samples) - held, held), seed)
    return (learned, judged) if len(learned) and len(judged) else None
