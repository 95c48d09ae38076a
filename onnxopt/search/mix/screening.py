"""Screening of layers: output losses with few measurements where most are negligible."""

from collections.abc import Callable, Sequence

_HARMLESS = 1 / 50
"""Share of the harm of all together below which a set of layers is not looked into."""


def screened(names: Sequence[str], harms: Callable[[Sequence[Sequence[str]]], Sequence[float]]) -> dict[str, float]:
    """Return the harm of each layer, those in a set that does next to nothing sharing that of the set.

    Sets are halved until they are harmless or one layer.

    Args:
        names: of the layers, neighbours next to each other.
        harms: of each of several sets of layers, each set together.
    """
    if not names:
        return {}
    found = dict[str, float]()
    sets = [list(names)]
    totals = harms(sets)
    limit = totals[0] * _HARMLESS
    while sets:
        halves = list[list[str]]()
        for some, total in zip(sets, totals, strict=True):
            if len(some) == 1 or total <= limit:
                found |= dict.fromkeys(some, total / len(some))
            else:
                halves += [some[: len(some) // 2], some[len(some) // 2 :]]
        sets, totals = halves, harms(halves) if halves else []
    return {name: found[name] for name in names}
