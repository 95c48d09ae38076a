"""Energy of the processor packages, if the system counts it (RAPL)."""

from collections.abc import Callable
from pathlib import Path

ROOT = Path("/sys/class/powercap")

Meter = Callable[[], "dict[str, tuple[int, int]] | None"]
"""Returns the counter of each package in microjoules, and the value at which it wraps around; None without counters."""


def packages(root: Path = ROOT) -> dict[str, tuple[int, int]] | None:
    """Read the counters of all processor packages; None if there are none, or only the administrator may read them."""
    found = {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            if zone.name.count(":") > 1:  # a part of a package, included in the package's counter
                continue
            counted, most = (int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
            found[zone.name] = counted, most
    except (OSError, ValueError):
        return None
    return found or None


def joules(before: dict[str, tuple[int, int]] | None, after: dict[str, tuple[int, int]] | None) -> float | None:
    """Return the energy between two readings, also if a counter wrapped around; None without both."""
    if before is None or after is None:
        return None
    return sum((counted - before[name][0]) % (most + 1) for name, (counted, most) in after.items()) / 1e6
