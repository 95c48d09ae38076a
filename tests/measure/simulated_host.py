"""A processor that other programs take away: own time stands still meanwhile, the time of day does not."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onnxopt.measure.latency.watch import Watch

US, MS = 1_000, 1_000_000


@dataclass
class Host:
    """Time that passes only when a simulated run says so.

    Attributes:
        slice_ns: of own time between two preemptions; None for a quiet host.
        away_ns: how long a preemption takes, at most.
        refill_ns: own time lost after a preemption, because the caches are cold.
        jitter: relative spread of every run.
        apart: relative spread from one loading to the next.
    """

    slice_ns: int | None = None
    away_ns: int = 4 * MS
    refill_ns: int = 30 * US
    jitter: float = 0.01
    apart: float = 0.003
    seed: int = 0
    wall_ns: int = 0
    own_ns: int = 0
    waited_ns: int = 0
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.left_ns = self.slice_ns or 0

    def work(self, ns: float) -> None:
        """Compute for so long, and be preempted meanwhile."""
        ns *= 1 + self.jitter * abs(self.rng.normal())
        while self.slice_ns is not None and ns > self.left_ns:
            self._pass(self.left_ns)
            ns += self.refill_ns - self.left_ns
            away = int(self.rng.uniform(0.2, 1) * self.away_ns)
            self.wall_ns += away
            self.waited_ns += away
            self.left_ns = int(self.rng.uniform(0.5, 1.5) * self.slice_ns)
        self._pass(ns)
        self.left_ns -= int(ns)

    def _pass(self, ns: float) -> None:
        self.wall_ns += int(ns)
        self.own_ns += int(ns)

    def run(self, name: str, ns: float) -> Callable[[], None]:
        """Return a run that takes so long."""

        def once() -> None:
            self.calls.append(name)
            self.work(ns)

        return once

    def watch(self, *, pauses: bool, tells: bool = True) -> Watch:
        """Return what times one thread (`pauses`) or several, on a system that tells of waiting or does not."""
        own = (lambda: self.own_ns) if pauses else (lambda: self.wall_ns)
        return Watch(own, lambda: self.wall_ns, lambda: self.waited_ns if tells else None, pauses)


def session_of(host: Host) -> type:
    """Return what stands for `Session`: a model is the ns of a run, or a function of the feeds to ns."""

    class Simulated:
        load_ms = 7.0

        def __init__(self, model: object, runtime: object) -> None:
            self.model, self.luck = model, 1 + host.apart * host.rng.normal()

        def _ns(self, feeds: object) -> float:
            return self.luck * (self.model(feeds) if callable(self.model) else float(self.model))  # type: ignore[arg-type]

        def run(self, feeds: object) -> None:
            host.work(3 * self._ns(feeds))

        def bound(self, feeds: object) -> Callable[[], None]:
            return lambda: host.work(self._ns(feeds))

    return Simulated
