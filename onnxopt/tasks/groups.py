"""Channel groups of a model, and the reasons for channels that cannot be pruned."""

from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.graph.channels.find import ChannelGroup, groups_of
from onnxopt.model_file import Given, as_graph
from onnxopt.model_file.given import name_of_given


def groups_document(model: Given) -> Document:
    """Return the channel groups of a model."""
    groups = groups_of(as_graph(model))
    free = [group for group in groups if group.frozen is None]
    columns = (
        Column("group"),
        Column("units", number=True),
        Column("unit"),
        Column("weights", number=True),
        Column("frozen because"),
    )
    units = sum(group.size for group in free)
    frozen = len(groups) - len(free)
    summary = Text((f"{len(free)} groups with {units} units can be pruned; {frozen} groups are frozen.",))
    return Document(
        (Table(columns, tuple(map(_row, groups)), title=name_of_given(model, "a model in memory")), summary),
        {"groups": _data(groups)},
    )


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
