"""The clock for runs, and the detection of other programs.

One thread is timed by its own processor time, which stands still while another program has the processor. Several
threads are timed by the time of day, together with how long the threads of this process waited for a processor.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NS_PER_SWITCH = 1_000_000
"""What an involuntary switch counts as waiting, where the system counts switches and not the waiting itself."""

COARSEST_S = 1e-6
"""A thread's own time in larger steps, as on Windows, cannot time a run."""


@dataclass(frozen=True)
class Watch:
    """Readings in nanoseconds.

    Attributes:
        own: what a run is measured by.
        wall: the time of day.
        waited: for how long threads of this process waited for a processor so far; None where nothing tells.
        pauses: whether `own` stands still while the thread waits, so that no round is spoilt by waiting.
    """

    own: Callable[[], int]
    wall: Callable[[], int]
    waited: Callable[[], int | None]
    pauses: bool


def watch_of(threads: int, *, on_processor: bool = True) -> Watch:
    """Return the watch for runs of so many threads; `on_processor` where the calling thread itself computes."""
    lone = threads == 1 and on_processor and time.get_clock_info("thread_time").resolution <= COARSEST_S
    return Watch(time.thread_time_ns if lone else time.perf_counter_ns, time.perf_counter_ns, waited_ns, lone)


def waited_ns() -> int | None:
    """Return for how long the threads of this process were ready and had no processor, since it began.

    From the scheduler's statistics (Linux); elsewhere from the number of involuntary switches; None without either.
    """
    found = run_delay_ns()
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw) * NS_PER_SWITCH


def run_delay_ns(tasks: Path = Path("/proc/self/task")) -> int | None:
    """Return the second number of every thread's schedstat, added up; None where there is none."""
    total, seen = 0, False
    try:
        for thread in tasks.iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[1])
                seen = True
            except (OSError, IndexError, ValueError):  # the thread has just ended, or the kernel keeps no statistics
                continue
    except OSError:
        return None
    return total if seen else None
