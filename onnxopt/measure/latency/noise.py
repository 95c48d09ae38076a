"""Noise of the host during a measurement: the one definition, for every table and report."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxopt.measure.latency.result import Latency

MOST_SPREAD = 0.10
"""Spread of one model's latency between loads above which a host counts as noisy."""

MOST_WAITING = 0.05
"""Share of the time waiting for a processor above which a host counts as noisy."""

_FEWEST = 4


@dataclass(frozen=True)
class Noise:
    """The noise in a measurement.

    Attributes:
        spread: distance of the 5th and the 95th percentile of one model's latency over loads, relative to the median;
            None when unknown.
        waited: largest share of the time that its threads waited for a processor; None when unknown.
    """

    spread: float | None
    waited: float | None

    @property
    def loud(self) -> bool:
        """Return whether the host counts as noisy."""
        return (self.spread or 0.0) > MOST_SPREAD or (self.waited or 0.0) > MOST_WAITING

    @property
    def words(self) -> str:
        """The noise as a sentence without its full stop; "" when unknown."""
        found = []
        if self.spread is not None:
            found.append(
                f"the baseline's latency varied by {100 * self.spread:.0f} % between loads (5th to 95th percentile)"
            )
        if self.waited is not None:
            found.append(f"its threads waited for a processor {100 * self.waited:.0f} % of the time")
        return ", and ".join(found)


def noise_of(epochs_ms: Sequence[float], waited: Sequence[float | None] = ()) -> Noise:
    """Return the noise in the latency of one model, over one or more measurements.

    Args:
        epochs_ms: typical latency after each load.
        waited: share of each measurement in which threads waited for a processor.
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
