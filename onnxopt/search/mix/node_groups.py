"""Channel groups that determine the time of a node."""

from collections.abc import Collection

import numpy as np

from onnxopt.graph.channels.find import Channels


def node_groups(channels: Channels, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the groups among `names` with channels on an axis of a node's inputs or outputs, by node."""
    owner = {
        root: group.name
        for group, roots in zip(channels.groups, channels.roots, strict=True)
        for root in roots
        if group.name in names
    }
    trace, found = channels.trace, dict[str, tuple[str, ...]]()
    for node in channels.model.graph:
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        vectors = [axis for v in values for axis in trace.axes.get(v.name or "", ()) if axis is not None]
        roots = {int(root) for vector in vectors for root in np.unique(trace.labels.roots(vector))}
        found[node.name or ""] = tuple(sorted({owner[root] for root in roots if root in owner}))
    return found
