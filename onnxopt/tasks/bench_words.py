"""A benchmark in sentences: the speed-up of each model, and the noise of the host."""

from collections.abc import Mapping

from onnxopt.document import units
from onnxopt.measure.latency import Latency
from onnxopt.measure.latency.noise import noise_in
from onnxopt.samples import Feeds

_MOST_SHAPES = 3


def inputs_words(data: object, feeds: Feeds) -> str:
    """Return the words for the inputs of a measurement; of synthetic ones their shapes too, which decide the time."""
    if data is not None:
        return f"samples of {data}"
    shapes = [f"{name} {units.shape(array.shape)}" for name, array in feeds.items()]
    more = f" and {len(shapes) - _MOST_SHAPES} more" if shapes[_MOST_SHAPES:] else ""
    return f"synthetic inputs ({', '.join(shapes[:_MOST_SHAPES])}{more})" if shapes else "synthetic inputs"


def said_of(timed: Mapping[str, Latency]) -> list[str]:
    """Return one sentence per model beside the first, like `B is 1.74x faster than A [1.72, 1.76]`."""
    names = list(timed)
    batch = timed[names[0]].batch_size
    lines = []
    for name in names[1:]:
        speedup = timed[name].speedup
        if timed[name].unsure:
            lines.append(f"At batch size {batch}, the speed of {name} is unsure: {timed[name].unsure}.")
        elif speedup is not None:
            lines.append(
                f"At batch size {batch}, {compared(name, names[0], speedup.low, speedup.value, speedup.high)}."
            )
    return lines


def fastest_of(timed: Mapping[str, Latency], providers: Mapping[str, str], left_out: Mapping[str, str]) -> list[str]:
    """Return one sentence per provider with its fastest model, and one per model that a provider cannot run.

    Args:
        timed: the times by `MODEL on PROVIDER`.
        providers: the providers by the same names.
        left_out: reasons by the same names.
    """
    lines = []
    for provider in dict.fromkeys(providers.values()):
        names = [name for name in timed if providers.get(name) == provider and not timed[name].unsure]
        if names:
            best = min(names, key=lambda name: timed[name].p50_ms)
            model, time = best.removesuffix(f" on {provider}"), units.significant(timed[best].p50_ms)
            lines.append(f"The fastest on {provider} is {model}: {time} ms.")
    return [*lines, *(f"{name} was left out: {why}." for name, why in left_out.items())]


def compared(name: str, other: str, low: float, value: float, high: float) -> str:
    """Return a ratio of speeds as a sentence; with 1 in its interval, neither is faster."""
    if low > 1:
        return f"{name} is {units.times(value)} faster than {other} {units.bounds(low, high)}"
    if high < 1:
        return f"{name} is {units.times(1 / value)} slower than {other} {units.bounds(1 / high, 1 / low)}"
    return f"{name} is as fast as {other} {units.bounds(low, high)}"


def warning_of(timed: Mapping[str, Latency]) -> str | None:
    """Return a warning about a noisy host during the measurement of the baseline; None for a quiet one."""
    noise = noise_in(next(iter(timed.values())))
    if not noise.loud:
        return None
    return f"Warning: noisy host: {noise.words}. Stop other programs, or give more --seconds."
