"""Numbers as text: the same digits, units and interval notation everywhere."""

from collections.abc import Sequence
from math import isfinite

from onnxopt.measure.metrics.score import percent
from onnxopt.measure.statistics import Interval

__all__ = [
    "bounds", "count", "faster", "many", "percent", "points", "points_interval", "score",
    "seconds", "shape", "significant", "size", "smaller", "times", "times_interval",
]  # fmt: skip


def share(value: float, digits: int = 0) -> str:
    """Return a share in percent with `digits` decimals."""
    return f"{100 * value:.{digits}f} %"


def size(count: float) -> str:
    """Return a number of bytes in decimal units, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{significant(count)} {unit}"
        count /= 1000
    raise AssertionError("the last unit always fits")


def count(number: float) -> str:
    """Return a large count with a unit prefix, three digits."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(number) < 999.5 or unit == " T":
            return f"{number:.0f}" if not unit else f"{significant(number)}{unit}"
        number /= 1000
    raise AssertionError("the last unit always fits")


def significant(value: float) -> str:
    """Return three significant digits without an exponent; more for numbers of 1000 and above."""
    if not isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    digits = 2
    size_ = abs(value)
    while size_ >= 9.995 and digits > 0:
        size_, digits = size_ / 10, digits - 1
    while 0 < size_ < 0.9995 and digits < 6:
        size_, digits = size_ * 10, digits + 1
    return f"{value:.{digits}f}"


def times(ratio: float) -> str:
    """Return a ratio as `1.53x`."""
    return f"{ratio:.2f}x" if isfinite(ratio) else "n/a"


def faster(low: float, value: float, high: float) -> str:
    """Return a speed-up in words; one whose interval contains 1 is `as fast`."""
    if low > 1:
        return f"{times(value)} faster {bounds(low, high)}"
    if high < 1:
        return f"{times(1 / value)} slower {bounds(1 / high, 1 / low)}"
    return f"as fast {bounds(low, high)}"


def bounds(low: float, high: float) -> str:
    """Return the interval of a ratio as `[low, high]`."""
    return f"[{low:.2f}, {high:.2f}]"


def smaller(ratio: float) -> str:
    """Return a ratio of sizes in words, the first over the second."""
    if not isfinite(ratio) or abs(ratio - 1) < 0.005:
        return "as large"
    return f"{times(ratio)} smaller" if ratio > 1 else f"{times(1 / ratio)} larger"


def times_interval(interval: Interval) -> str:
    """Return the interval of a ratio."""
    return bounds(interval.low, interval.high)


def score(value: float, unit: str) -> str:
    """Return a metric's value; a share as percent."""
    if not isfinite(value):
        return "n/a"
    return f"{100 * value:.2f} %" if unit == "share" else f"{value:.4f}"


def points(value: float, unit: str) -> str:
    """Return a drop in percentage points for a share, else in the metric's own unit."""
    if not isfinite(value):
        return "all"
    text = f"{100 * value:.2f}" if unit == "share" else f"{value:.4f}"
    return text.removeprefix("-") if not float(text) else text


def points_interval(interval: Interval, unit: str) -> str:
    """Return the interval of a drop."""
    return f"[{points(interval.low, unit)}, {points(interval.high, unit)}]"


def seconds(value: float) -> str:
    """Return a duration."""
    if value < 90:
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def many(number: int, noun: str, plural: str = "") -> str:
    """Return `1 layer`, `2 layers`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def shape(sizes: Sequence[object]) -> str:
    """Return the sizes of a tensor's axes, like `1x3x224x224`; `scalar` without an axis."""
    return "x".join(map(str, sizes)) or "scalar"
