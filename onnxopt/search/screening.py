"""What each of many layers does to the outputs, found with few measurements where most do nothing."""

from collections.abc import Callable, Sequence

_HARMLESS = 1 / 50
"""Share of the harm of all together below which a set of layers is not looked into."""


def screened(
    names: Sequence[str], harm: Callable[[Sequence[str]], float], progress: Callable[[int], None] = lambda done: None
) -> dict[str, float]:
    """Return the harm of each layer, those in a set that does next to nothing sharing that of the set.

    Sets are halved until they are harmless or one layer.

    Args:
        names: of the layers, neighbours next to each other.
        harm: of a set of layers together.
        progress: told how many layers are settled.
    """
    found = dict[str, float]()
    if not names:
        return found
    sets = [(list(names), harm(names))]
    limit = sets[0][1] * _HARMLESS
    while sets:
        some, total = sets.pop()
        if len(some) == 1 or total <= limit:
            found |= dict.fromkeys(some, total / len(some))
            progress(len(found))
            continue
        middle = len(some) // 2
        sets += [(half, harm(half)) for half in (some[middle:], some[:middle])]
    return {name: found[name] for name in names}
