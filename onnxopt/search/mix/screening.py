"""Screening of layers: output losses with few measurements where most are negligible."""

from collections.abc import Callable, Sequence

_HARMLESS = 1 / 50
"""Share of the total loss below which a set of layers is not split further."""


def screened(names: Sequence[str], losses: Callable[[Sequence[Sequence[str]]], Sequence[float]]) -> dict[str, float]:
    """Return the loss of each layer; layers of a negligible set share the loss of the set.

    Sets are halved until they are negligible or hold one layer.

    Args:
        names: names of the layers, in graph order.
        losses: returns the losses of several sets of layers, each set applied together.
    """
    if not names:
        return {}
    found = dict[str, float]()
    sets = [list(names)]
    totals = losses(sets)
    limit = totals[0] * _HARMLESS
    while sets:
        halves = list[list[str]]()
        for some, total in zip(sets, totals, strict=True):
            if len(some) == 1 or total <= limit:
                found |= dict.fromkeys(some, total / len(some))
            else:
                halves += [some[: len(some) // 2], some[len(some) // 2 :]]
        sets, totals = halves, losses(halves) if halves else []
    return {name: found[name] for name in names}
