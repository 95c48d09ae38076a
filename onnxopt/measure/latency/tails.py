"""Tail latency: p90 and p99 with confidence bounds."""

import numpy as np

CONFIDENCE = 0.99


def upper_bound(times: np.ndarray, share: float, confidence: float = CONFIDENCE) -> float | None:
    """Return an upper bound with `confidence` of the `share` quantile of run times; None if too few runs were timed.

    The bound is an order statistic: the k-th fastest of n runs is above the true quantile with the probability that
    fewer than k of n fall below it. The 99 % quantile at 99 % confidence needs 459 runs; the bound is the slowest.

    Source: David and Nagaraja, "Order Statistics", 2003, section 7.1.
    """
    count = len(times)
    if 1 - share**count < confidence:
        return None
    from scipy import stats  # takes most of a second, and few commands time

    place = int(stats.binom.ppf(confidence, count, share)) + 1
    return float(np.sort(times)[min(place, count) - 1])
