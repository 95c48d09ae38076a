"""The clock for runs, and the detection of other programs.

One thread is timed by its own processor time, which pauses while another program has the processor. Several threads
are timed by wall-clock time; the time that threads of this process waited for a processor is read too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NS_PER_SWITCH = 1_000_000
"""Waiting time per involuntary switch, if the system counts switches but not the waiting itself."""

COARSEST_S = 1e-6
"""Coarsest usable step of a thread's own time; larger steps, as on Windows, cannot time a run."""


@dataclass(frozen=True)
class Watch:
    """Readings in nanoseconds.

    Attributes:
        own: the clock that times runs.
        wall: wall-clock time.
        waited: total time that threads of this process have waited for a processor; None if unknown.
        pauses: whether `own` pauses while the thread waits, so that waiting disturbs no round.
        throttle: whether heat slows the processor down now, and the number of times that it was; None if unknown.
    """

    own: Callable[[], int]
    wall: Callable[[], int]
    waited: Callable[[], int | None]
    pauses: bool
    throttle: Callable[[], tuple[bool, int] | None] = lambda: None


def watch_of(threads: int, *, on_processor: bool = True) -> Watch:
    """Return the watch for runs of `threads` threads; `on_processor` if the calling thread itself computes."""
    lone = threads == 1 and on_processor and time.get_clock_info("thread_time").resolution <= COARSEST_S
    return Watch(time.thread_time_ns if lone else time.perf_counter_ns, time.perf_counter_ns, waited_ns, lone)


def waited_ns() -> int | None:
    """Return the time that threads of this process have been ready without a processor, since its start.

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
    """Return the sum of the second number in every thread's schedstat; None without one."""
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
