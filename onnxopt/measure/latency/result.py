"""The measured latency of a model."""

from collections.abc import Callable
from dataclasses import dataclass

from onnxopt.measure.statistics import Interval

Progress = Callable[[int, int], None]
"""Called with how many epochs are done and how many there are."""


@dataclass(frozen=True)
class Latency:
    """How fast a model runs one batch.

    `p50_ms` and `speedup` come from the same runs: the speed-up is the ratio of the two `p50_ms`.

    Attributes:
        p50_ms: typical time of a run: of each input the middle of its runs, averaged over the inputs, undisturbed.
        p90_ms: 9 of 10 runs take no longer by the time of day, other programs included.
        p99_ms: 99 of 100 runs likewise; None where too few runs were timed to know.
        n: timed runs, in blocks of all epochs.
        first_run_ms: the first run after loading, which allocates memory; median of the epochs.
        load_ms: time to load the model; median of the epochs.
        speedup: baseline time over this model's, and how sure that is; None for the baseline, and where `unsure`.
        peak_memory_bytes: growth of a fresh process that loads and runs the model; None when not measured.
        batch_size: first axis of the inputs.
        p50_interval_ms: of `p50_ms`, from how much the epochs differ.
        quantiles_ms: of all runs by the time of day, equally spaced from the fastest to the slowest.
        epochs_ms: typical time in each epoch, in the order of time.
        unsure: why nothing can be said of the time; "" where it can.
        waited: share of the time that threads of this process waited for a processor; None where nothing tells.
        inputs: different inputs that were run by turns.
        p90_bound_ms: the true 90 % point is below with 99 % confidence; None with fewer than 44 runs.
        p99_bound_ms: the true 99 % point likewise; None with fewer than 459 runs.
        private_bytes: growth of memory that belongs to that process alone, which a container is killed for.
        mapped_bytes: growth of memory that is backed by files, which the system can take back.
        cold_start_ms: from the start of a fresh process to its first result.
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
