"""The measured latency of a model."""

from collections.abc import Callable
from dataclasses import dataclass

from onnxopt.measure.statistics import Interval

Progress = Callable[[int, int], None]
"""Called with the number of epochs done and their total."""


@dataclass(frozen=True)
class Latency:
    """The latency of one batch.

    `p50_ms` and `speedup` come from the same runs: the speed-up is the ratio of the two `p50_ms`.

    Attributes:
        p50_ms: typical time of an undisturbed run: the middle of the runs of each input, averaged over the inputs.
        p90_ms: 9 of 10 runs take no longer in wall-clock time, other programs included.
        p99_ms: 99 of 100 runs take no longer in wall-clock time; None if too few runs were timed.
        n: number of timed runs, all epochs together.
        first_run_ms: time of the first run after loading, which allocates memory; median of the epochs.
        load_ms: time to load the model; median of the epochs.
        speedup: baseline time over this model's time, with its interval; None for the baseline and if `unsure`.
        peak_memory_bytes: growth of a fresh process that loads and runs the model; None if not measured.
        batch_size: first axis of the inputs.
        p50_interval_ms: interval of `p50_ms`, from the differences between epochs.
        quantiles_ms: wall-clock times of all runs, equally spaced from the fastest to the slowest.
        epochs_ms: typical time in each epoch, in the order of time.
        unsure: the reason why the time is unknown; "" if it is known.
        waited: share of the time that threads of this process waited for a processor; None if unknown.
        inputs: number of alternating inputs.
        p90_bound_ms: the true 90 % quantile is below it with 99 % confidence; None with fewer than 44 runs.
        p99_bound_ms: the true 99 % quantile is below it with 99 % confidence; None with fewer than 459 runs.
        private_bytes: growth of memory that belongs to the process alone, which counts against a container's limit.
        mapped_bytes: growth of memory backed by files, which the system can reclaim.
        cold_start_ms: the time from the start of a fresh process to its first result.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    n: int
    first_run_ms: float
    load_ms: float
    speedup: Interval | None
    peak_memory_bytes: int | None
    batch_size: int
    p50_interval_ms: Interval
    quantiles_ms: tuple[float, ...] = ()
    epochs_ms: tuple[float, ...] = ()
    unsure: str = ""
    waited: float | None = None
    inputs: int = 1
    p90_bound_ms: float | None = None
    p99_bound_ms: float | None = None
    private_bytes: int | None = None
    mapped_bytes: int | None = None
    cold_start_ms: float | None = None
