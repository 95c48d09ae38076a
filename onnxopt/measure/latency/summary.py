"""Summary of the rounds of all loadings: one `Latency` per model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.measure.latency import estimate
from onnxopt.measure.latency.result import Latency
from onnxopt.measure.latency.rounds import Round
from onnxopt.measure.latency.tails import upper_bound
from onnxopt.measure.statistics import Interval, ratio_interval

QUANTILES = 41
"""Number of stored quantiles of each model's runs."""

MIN_EPOCHS = 4
"""Fewest epochs if loading takes long: with fewer, the interval is useless."""

STRICT = 0.98
"""Level at which a 95 % interval is computed, because epochs on a busy host are not normally distributed."""

RESOLUTION = 1.01
"""Smallest ratio that counts: on virtual machines a ratio measured minutes later differs by as much."""

CACHED = 0.025
"""Power of a ratio by which its interval widens: a short model loses a larger share of its time to caches that others
fill. Without it two cells of `bench/clock.py` at a ratio of four held the planted ratio in 81 and 84 % of the trials.
"""

WIDEST = 1.5
"""Ratio of an interval's upper end to its lower end above which it is useless, unless it is clear of one."""

WIDEST_CLEAR = 2.0
"""The same for an interval that is further from one than `WIDEST`, which clearly tells the models apart."""


@dataclass(frozen=True)
class Epoch:
    """Measurements of the sessions of one loading; tuples hold one value per model."""

    rounds: list[Round]
    load_ms: tuple[float, ...]
    first_run_ms: tuple[float, ...]
    loading_s: float


def summed_up(epochs: Sequence[Epoch], *, pauses: bool, shapes: Sequence[int], batch_size: int) -> list[Latency]:
    """Return the latency of each model.

    Args:
        epochs: all loadings.
        pauses: whether the watch paused while a thread waited.
        shapes: a number for each input; inputs of equal shapes have the same number.
        batch_size: first axis of the inputs.
    """
    clean = [estimate.undisturbed(epoch.rounds, pauses) for epoch in epochs]
    usable = [rounds for rounds in clean if len(rounds) >= estimate.FEWEST_CLEAN]
    everything = [r for epoch in epochs for r in epoch.rounds]
    why = _busy(epochs, clean, usable)
    times_ms = np.array([estimate.per_run_ns(r, shapes) for r in (usable or [e.rounds for e in epochs])]) / 1e6
    waited = estimate.waiting_share(everything)
    return [
        _latency(
            i,
            epochs,
            times_ms=times_ms,
            rounds=everything,
            why=why,
            waited=waited,
            batch_size=batch_size,
            inputs=len(shapes),
        )
        for i in range(len(everything[0].own_ns))
    ]


def _busy(epochs: Sequence[Epoch], clean: Sequence[Sequence[Round]], usable: Sequence[Sequence[Round]]) -> str:
    """Return the reason why too little time was undisturbed; "" if there was enough."""
    everything = [r for epoch in epochs for r in epoch.rounds]
    if len(usable) < min(MIN_EPOCHS, len(epochs)):
        spoilt = len(everything) - sum(map(len, clean))
        return (
            f"other programs kept its threads waiting for a processor in {spoilt} of {len(everything)} rounds; "
            "stop them, or give fewer threads"
        )
    if estimate.restless(everything):
        return "its runs differ too much from each other: other programs took the processor; stop them"
    return ""


def _latency(
    index: int,
    epochs: Sequence[Epoch],
    *,
    times_ms: np.ndarray,
    rounds: Sequence[Round],
    why: str,
    waited: float | None,
    batch_size: int,
    inputs: int,
) -> Latency:
    wall_ms = np.concatenate([r.wall_ns[index] for r in rounds]) / 1e6
    own = interval_over(list(times_ms[:, index]))
    speedup = interval_of_ratio(list(times_ms[:, 0] / times_ms[:, index])) if index else None
    why = why or ("" if speedup is None else too_wide(speedup))
    return Latency(
        p50_ms=own.value,
        p90_ms=float(np.quantile(wall_ms, 0.9)),
        p99_ms=None if (bound := upper_bound(wall_ms, 0.99)) is None else float(np.quantile(wall_ms, 0.99)),
        n=len(wall_ms),
        first_run_ms=float(np.median([epoch.first_run_ms[index] for epoch in epochs])),
        load_ms=float(np.median([epoch.load_ms[index] for epoch in epochs])),
        speedup=None if why else speedup,
        peak_memory_bytes=None,
        batch_size=batch_size,
        p50_interval_ms=own,
        quantiles_ms=tuple(map(float, np.quantile(wall_ms, np.linspace(0, 1, QUANTILES)))),
        epochs_ms=tuple(map(float, times_ms[:, index])),
        unsure=why,
        waited=waited,
        inputs=inputs,
        p90_bound_ms=upper_bound(wall_ms, 0.9),
        p99_bound_ms=bound,
    )


def too_wide(speedup: Interval) -> str:
    """Return the reason why an interval is useless; "" if it is useful."""
    clear = speedup.low >= WIDEST or speedup.high <= 1 / WIDEST
    if speedup.high <= (WIDEST_CLEAR if clear else WIDEST) * speedup.low:
        return ""
    return (
        f"it varied so much that its speed is between {speedup.low:.2f} and {speedup.high:.2f} times the first's; "
        "stop other programs, or measure for longer"
    )


def interval_over(epochs: Sequence[float]) -> Interval:
    """Return the interval of a time over several loadings."""
    found = ratio_interval(epochs, STRICT)
    return Interval(found.low / RESOLUTION, found.value, found.high * RESOLUTION)


def interval_of_ratio(epochs: Sequence[float]) -> Interval:
    """Return the interval of a speed-up over several loadings, the wider the further it is from one."""
    found = interval_over(epochs)
    wider = max(found.value, 1 / found.value) ** CACHED
    return Interval(found.low / wider, found.value, found.high * wider)
