"""Heat of a device: its temperatures, the refusal of a start while it is hot, and the throttling of its processor."""

import time
from collections.abc import Callable
from pathlib import Path

SYSTEM = Path("/sys")
HOTTEST_CELSIUS = 75.0
"""Default limit of the temperature at the start: boards lower their clock from 80 degrees on."""

LOOK_S = 5.0
"""Seconds between two looks at the temperature while the device cools down."""

_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
_SLOWED_BITS = 0b1110
"""Bits of the firmware of a Raspberry Pi: frequency capped, throttled, soft temperature limit; all of them now."""


def limit_of(text: str) -> float:
    """Return the limit of the temperature that `text` says; raises ValueError for anything but a positive number."""
    limit = float(text)
    if not 0 < limit < 1000:
        raise ValueError(f"{text} is no temperature")
    return limit


def temperatures(system: Path = SYSTEM) -> list[float]:
    """Return the temperature of each zone in degrees Celsius, as far as the system reports it."""
    texts = [_read(zone) for zone in sorted(system.glob("class/thermal/thermal_zone*/temp"))]
    return [int(text) / 1000 for text in texts if text.lstrip("-").isdigit()]


def too_hot(
    limit: float,
    wait_s: float = 0.0,
    *,
    look: Callable[[], list[float]] = temperatures,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return the reason against a start; "" below `limit` degrees Celsius, or where no temperature is known.

    Args:
        limit: highest temperature of the hottest zone.
        wait_s: longest time for it to cool down.
        look: returns the temperatures.
        sleep: waits that many seconds.
    """
    hottest = max(look(), default=limit)
    waited_s = 0.0
    while hottest > limit and waited_s < wait_s:
        sleep(LOOK_S)
        waited_s += LOOK_S
        hottest = max(look(), default=limit)
    if hottest <= limit:
        return ""
    return f"the device has {hottest:.0f} °C, more than the limit of {limit:g} °C: let it cool down, or raise the limit"


class Throttle:
    """Whether heat or low voltage slows the processor down, from the sources that the system has.

    They are the firmware of a Raspberry Pi, cooling devices of the processor (Linux on ARM), and counters of throttling
    (Linux on x86).
    """

    def __init__(self, system: Path = SYSTEM) -> None:
        self._firmware = [path for path in (system / _FIRMWARE,) if _read(path)]
        cooling = system.glob("class/thermal/cooling_device*")
        self._cooling = [device / "cur_state" for device in cooling if "cpufreq" in _read(device / "type")]
        self._counters = sorted(system.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"))

    def read(self) -> tuple[bool, int] | None:
        """Return whether the processor is slowed down now, and the number of times that it was; None where unknown."""
        bits = [_number(path, 16) & _SLOWED_BITS for path in self._firmware]
        states = [_number(path) for path in self._cooling]
        if not (bits or states or self._counters):
            return None
        return any((*bits, *states)), sum(_number(path) for path in self._counters)


def _number(path: Path, base: int = 10) -> int:
    try:
        return int(_read(path), base)
    except ValueError:  # the file was removed, or it holds no number
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
