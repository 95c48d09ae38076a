"""Whether the host was quiet while it measured: the one definition, for every table and report."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxopt.measure.latency.result import Latency

MOST_SPREAD = 0.10
"""Above such a spread of one model's time from loading to loading, a host is called noisy."""

MOST_WAITING = 0.05
"""Above such a share of the time spent waiting for a processor, likewise."""

_FEWEST = 4


@dataclass(frozen=True)
class Noise:
    """What disturbed a measurement.

    Attributes:
        spread: how far 9 of 10 loadings of one model lay apart, relative to their median; None when unknown.
        waited: largest share of the time that its threads waited for a processor; None when unknown.
    """

    spread: float | None
    waited: float | None

    @property
    def loud(self) -> bool:
        """Whether the host is called noisy."""
        return (self.spread or 0.0) > MOST_SPREAD or (self.waited or 0.0) > MOST_WAITING

    @property
    def words(self) -> str:
        """What was seen, in a sentence without its full stop; "" when nothing is known."""
        found = []
        if self.spread is not None:
            found.append(f"the first model's own time varied by {100 * self.spread:.0f} % from loading to loading")
        if self.waited is not None:
            found.append(f"its threads waited for a processor {100 * self.waited:.0f} % of the time")
        return ", and ".join(found)


def noise_of(epochs_ms: Sequence[float], waited: Sequence[float | None] = ()) -> Noise:
    """Return the noise in the times of one model, of however many measurements.

    Args:
        epochs_ms: time of each loading.
        waited: share of each measurement that was spent waiting.
    """
    values, shares = sorted(epochs_ms), [share for share in waited if share is not None]
    spread = None
    if len(values) >= _FEWEST:
        cut = len(values) // 20
        spread = (values[-1 - cut] - values[cut]) / values[len(values) // 2]
    return Noise(spread, max(shares, default=None))


def noise_in(latency: Latency) -> Noise:
    """Return the noise in one measurement."""
    return noise_of(latency.epochs_ms, (latency.waited,))
