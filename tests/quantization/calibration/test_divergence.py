"""Thresholds by divergence: the clipped tail counts, and each measure is the one that its paper defines."""

import numpy as np
import pytest
from scipy.spatial import distance

from onnxopt.quantization.calibration import divergence
from onnxopt.quantization.calibration.histogram import BINS, Histogram


def histogram(seed: int) -> Histogram:
    rng = np.random.default_rng(seed)
    values = np.abs(rng.standard_t(2.5, 4 * BINS))
    high = float(values.max())
    counts, _ = np.histogram(values, bins=BINS, range=(0.0, high))
    return Histogram(0.0, high, 0.0, high, counts)


def test_what_lies_beyond_the_threshold_counts_in_the_last_bin_of_the_reference() -> None:
    seen: dict[int, np.ndarray] = {}

    def record(reference: np.ndarray, _: np.ndarray) -> float:
        seen[len(reference)] = reference
        return 0.0

    divergence.threshold(np.ones(BINS), record)
    shortest = seen[min(seen)]
    assert shortest[-1] / shortest[0] == pytest.approx(1 + BINS - len(shortest))
    assert all(reference.sum() == pytest.approx(1) for reference in seen.values())


def test_jensen_shannon_is_symmetric_as_scipy_computes_it() -> None:
    def by_scipy(p: np.ndarray, q: np.ndarray) -> float:
        return float(distance.jensenshannon(p, q) ** 2)

    def one_direction(p: np.ndarray, q: np.ndarray) -> float:
        return divergence._kullback_leibler(p, (p + q) / 2)

    differing = 0
    for seed in range(12):
        found = divergence.jensen_shannon(histogram(seed))
        assert found == divergence._closest(histogram(seed), by_scipy)
        differing += found != divergence._closest(histogram(seed), one_direction)
    assert differing, "no histogram here tells the two directions apart"
