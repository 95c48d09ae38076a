"""Tail latency: p90 and p99 with confidence bounds."""

import numpy as np
from scipy import stats

CONFIDENCE = 0.99


def upper_bound(times: np.ndarray, share: float, confidence: float = CONFIDENCE) -> float | None:
    """Return a time that `share` of all runs stay below with `confidence`; None where too few were timed.

    The order statistic: of n runs the k-th fastest is above the true quantile with the probability that fewer than k
    of n fall below it. A 99 % point at 99 % confidence needs 459 runs, of which it is the slowest.

    Source: David and Nagaraja, "Order Statistics", 2003, section 7.1.
    """
    count = len(times)
    if 1 - share**count < confidence:
        return None
    place = int(stats.binom.ppf(confidence, count, share)) + 1
    return float(np.sort(times)[min(place, count) - 1])
