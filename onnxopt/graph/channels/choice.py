"""Choice of the part to prune where an axis splits into several, such as heads and their dimensions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from onnxopt.graph.channels.trace import Trace

Part = Literal["outer", "inner"]
_MOST_PARTS = 6
_NEARLY = 0.95
"""The choice node by node is preferred if it can remove at least this share of the most removable elements."""
_ENOUGH = 4
"""With at least this many units the outer part is cut: heads are removed before dimensions of a head."""


def best(traced: Callable[[Mapping[str, int], int], Trace], part: Part | None) -> Trace:
    """Return the choice that can remove the most elements; with `part`, that part wherever it can be cut.

    Args:
        traced: returns the labels, given a choice per node and a choice for all other nodes.
        part: the `outer` one (heads, groups), the `inner` one (dimensions of a head, channels within a group), or None.
    """
    options = [traced({}, 0)]
    parts = min(max((n for _, n in options[0].splits.values()), default=1), _MOST_PARTS)
    if parts == 1:
        return options[0]
    options += [traced({}, i) for i in range(1, parts)]
    choice = dict[str, int]()
    for nodes in _linked(options):
        units = [min(_free_units(option, nodes), _ENOUGH if part is None else 2) for option in options]
        order = range(parts)[::-1] if part == "inner" else range(parts)
        choice.update(dict.fromkeys(nodes, max(order, key=lambda i: units[i])))
    mixed = traced(choice, 0)
    if part is not None:
        return mixed
    most = max([*options, mixed], key=_removable)
    return mixed if _removable(mixed) >= _NEARLY * _removable(most) else most


def _linked(options: Sequence[Trace]) -> list[list[str]]:
    """Return the sets of nodes whose parts are removed together in some option: one choice decides each set."""
    names = list(dict.fromkeys(n for option in options for n in option.splits))
    home = {name: name for name in names}
    for option in options:
        holder = dict[int, str]()
        for name, (vector, _) in option.splits.items():
            roots = np.unique(option.labels.roots(vector))
            for root in roots[option.labels.free(roots)].tolist():
                one, other = home[holder.setdefault(root, name)], home[name]
                if one != other:
                    home = {n: one if h == other else h for n, h in home.items()}
    sets = dict[str, list[str]]()
    for name, key in home.items():
        sets.setdefault(key, []).append(name)
    return list(sets.values())


def _free_units(trace: Trace, nodes: Sequence[str]) -> int:
    classes = trace.labels.among(trace.splits[n][0] for n in nodes if n in trace.splits)
    return int(trace.labels.free(np.flatnonzero(classes)).sum())


def _removable(trace: Trace) -> int:
    """Return the number of weight elements on axes that can shrink."""
    total, begun = 0, trace.labels.among(v for _, v in trace.sources)
    for (name, axis), vector in trace.members.items():
        roots, shape = trace.labels.roots(vector), trace.first.shapes[name]
        free = begun[roots] & trace.labels.free(roots)
        if (roots != roots[0]).any():
            total += int(free.sum()) * (int(np.prod(shape)) // shape[axis])
    return total
