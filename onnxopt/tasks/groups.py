"""Which channels of a model go together, and why others cannot go."""

from pathlib import Path

from onnxopt import model_file
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.graph.channels.find import ChannelGroup, groups_of


def groups_document(path: Path) -> Document:
    """Return the channel groups of the model at `path`."""
    groups = groups_of(model_file.load(path))
    free = [group for group in groups if group.frozen is None]
    columns = (
        Column("group"),
        Column("units", number=True),
        Column("unit"),
        Column("weights", number=True),
        Column("why frozen"),
    )
    units = sum(group.size for group in free)
    summary = Text((f"{len(free)} groups with {units} units can be cut, {len(groups) - len(free)} are frozen.",))
    return Document((Table(columns, tuple(map(_row, groups)), title=str(path)), summary), {"groups": _data(groups)})


def _row(group: ChannelGroup) -> tuple[str, ...]:
    others = "".join(f"\n+ {name}" for name in group.sources[1:])
    weights = str(len({name for name, _, _ in group.members}))
    return (group.name + others, str(group.size), group.unit, weights, group.frozen or "-")


def _data(groups: tuple[ChannelGroup, ...]) -> list[dict[str, object]]:
    return [
        {
            "name": group.name,
            "size": group.size,
            "unit": group.unit,
            "sources": list(group.sources),
            "members": [{"weight": n, "axis": i, "positions": [list(p) for p in at]} for n, i, at in group.members],
            "consumers": [{"value": n, "axis": i, "positions": [list(p) for p in at]} for n, i, at in group.consumers],
            "frozen": group.frozen,
        }
        for group in groups
    ]
