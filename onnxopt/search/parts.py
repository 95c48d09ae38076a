"""The data of a search in three disjoint parts: for calibration, for search, and for the proof."""

from dataclasses import dataclass

import numpy as np

from onnxopt.errors import DataError, UsageError
from onnxopt.samples import Feeds, Samples

CALIBRATION_SHARE, CALIBRATION_MOST = 0.25, 256
SEARCH_SHARE, SEARCH_MOST = 1 / 3, 1000
LEAST = 8


@dataclass(frozen=True)
class Parts:
    """Disjoint samples: the proof uses no sample of calibration or search."""

    calibration: Samples
    search: Samples
    holdout: Samples


def split_parts(samples: Samples, calibration: Samples | None, seed: int) -> Parts:
    """Split `samples` at random; without `calibration`, a quarter of them (at most 256) becomes it.

    A third of the rest (at most 1000) is for the search. The larger part is for the proof, which needs more samples:
    choosing among few candidates needs less evidence than proving that one is within budget.

    Samples of `calibration` that are also in `samples` are left out of it.

    Raises:
        DataError: ONX205 fewer than 8 samples.
        UsageError: ONX115 all of `calibration` is among `samples`.
    """
    if len(samples) < LEAST:
        raise DataError(
            "ONX205",
            "too few samples to search and to prove",
            where=samples.name,
            why=f"{len(samples)} samples",
            hint=f"Give at least {LEAST}; some hundreds make the proof meaningful.",
        )
    count = len(samples)
    used = 0 if calibration is not None else min(int(count * CALIBRATION_SHARE), CALIBRATION_MOST)
    search = min(int((count - used) * SEARCH_SHARE), SEARCH_MOST)
    first, second, third = samples.split((used, search, count - used - search), seed)
    return Parts(first if calibration is None else _without(calibration, second, third), second, third)


def _without(calibration: Samples, *judged: Samples) -> Samples:
    """Return `calibration` without the samples that judge candidates, even if it comes from another file."""
    seen = {digest for part in judged for digest in part.digests}
    kept = np.flatnonzero([digest not in seen for digest in calibration.digests])
    if len(kept) == len(calibration):
        return calibration
    if not len(kept):
        raise UsageError(
            "ONX115",
            "calibration and data are the same samples",
            where=calibration.name,
            hint="Leave --calibration out: a part of the data is taken for it, and used for nothing else.",
        )
    return calibration.select(calibration.indices[kept])


def typical_feeds(samples: Samples, batch_size: int) -> Feeds:
    """Return the batch for timing: of the first 32 samples, those of median size.

    Args:
        samples: the data; inputs such as sentences may differ in size.
        batch_size: samples in the batch; fewer if fewer have that size.
    """
    singles = list(samples.take(32).with_batch_size(1))
    by_size = sorted(singles, key=lambda feeds: sum(a.size for a in feeds.values()))
    middle = by_size[len(by_size) // 2]
    shapes = {name: array.shape for name, array in middle.items()}
    alike = [f for f in singles if {name: array.shape for name, array in f.items()} == shapes]
    chosen = (alike * batch_size)[:batch_size]
    if samples.fixed_batch or not samples.source.stacks or len(chosen) == 1:
        return middle
    return {name: np.concatenate([f[name] for f in chosen]) for name in middle}
