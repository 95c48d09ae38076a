"""What a benchmark says in words: which is faster by how much, and whether the host was quiet."""

from collections.abc import Mapping

from onnxopt.document import units
from onnxopt.measure.latency import Latency
from onnxopt.measure.latency.noise import noise_in


def said_of(timed: Mapping[str, Latency]) -> list[str]:
    """Return one sentence per model beside the first, like `B is 1.74x faster than A [1.72, 1.76]`."""
    names = list(timed)
    batch = timed[names[0]].batch_size
    lines = []
    for name in names[1:]:
        speedup = timed[name].speedup
        if timed[name].unsure:
            lines.append(f"At batch size {batch}, how fast {name} is stays unsure: {timed[name].unsure}.")
        elif speedup is not None:
            lines.append(
                f"At batch size {batch}, {compared(name, names[0], speedup.low, speedup.value, speedup.high)}."
            )
    return lines


def compared(name: str, other: str, low: float, value: float, high: float) -> str:
    """Return a ratio of speeds as a sentence; where its interval holds 1, neither is faster."""
    if low > 1:
        return f"{name} is {units.times(value)} faster than {other} [{low:.2f}, {high:.2f}]"
    if high < 1:
        return f"{name} is {units.times(1 / value)} slower than {other} [{1 / high:.2f}, {1 / low:.2f}]"
    return f"{name} is as fast as {other} [{low:.2f}, {high:.2f}]"


def warning_of(timed: Mapping[str, Latency]) -> str | None:
    """Return a warning when the host was noisy while the first model was measured; None on a quiet one."""
    noise = noise_in(next(iter(timed.values())))
    if not noise.loud:
        return None
    return f"Warning: a noisy host: {noise.words}. Stop other programs, or give more --seconds."
