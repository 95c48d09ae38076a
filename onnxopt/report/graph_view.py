"""Drawings of the graph before and after, coloured by the edit of each node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from onnxopt.record.analysis import GraphRecord, NodeRecord
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import TrialRecord
from onnxopt.report.graph_layout import HEIGHT, WIDTH, GraphLayout, layout

MOST_DRAWN = 3000
"""Number of nodes above which a chain of unchanged nodes is drawn as one node."""
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
KINDS = {
    "int8": "to INT8",
    "changed": "changed",
    "gone": "folded or removed",
    "left": "skipped, with a reason",
    "new": "new",
    "same": "unchanged",
}


@dataclass(frozen=True)
class Drawn:
    """One node of a drawing; `about` is shown on a tap."""

    name: str
    op_type: str
    kind: str
    about: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class GraphView:
    """A drawing with its title and the number of nodes per kind."""

    title: str
    svg: Markup
    counts: Mapping[str, int]

    @property
    def said(self) -> str:
        """The counts in words."""
        return ", ".join(f"{number} {KINDS[kind]}" for kind, number in self.counts.items() if number)


def graph_views(run: RunRecord) -> tuple[GraphView, ...]:
    """Return the drawing of the baseline and, with a winner, of best.onnx."""
    found = run.analysis
    if found is None or found.before is None:
        return ()
    winner = run.trial(run.winner)
    done, why = what_happened(run)
    after_names = set() if found.after is None else {node.name for node in found.after.nodes}

    def before_kind(node: NodeRecord) -> str:
        if node.name in done:
            return "int8" if "INT8" in done[node.name] else "gone" if node.name not in after_names else "changed"
        if winner is not None and node.name not in after_names:
            return "gone"
        return "left" if node.name in why else "same"

    before_names = {node.name for node in found.before.nodes}

    def after_kind(node: NodeRecord) -> str:
        if node.name in done:
            return "int8" if "INT8" in done[node.name] else "changed"
        if node.name not in before_names:
            return "new"
        return "left" if node.name in why else "same"

    def drawing(title: str, graph: GraphRecord, kinds: Sequence[str]) -> GraphView:
        abouts = [done.get(n.name) or _left(why.get(n.name)) or "" for n in graph.nodes]
        nodes = [
            Drawn(n.name, n.op_type, kind, about or KINDS[kind], n.inputs)
            for n, kind, about in zip(graph.nodes, kinds, abouts, strict=True)
        ]
        shown = _without_conversions(nodes)
        counts = {kind: sum(n.kind == kind for n in shown) for kind in KINDS}
        shown = shown if len(shown) <= MOST_DRAWN else _folded(shown)
        more = f", {graph.left_out} more not drawn" if graph.left_out else ""
        return GraphView(f"{title}: {len(graph.nodes) + graph.left_out} nodes{more}", _svg(shown, title), counts)

    views = [drawing("Before", found.before, [before_kind(n) for n in found.before.nodes])]
    if found.after is not None:
        views.append(drawing("After", found.after, [after_kind(n) for n in found.after.nodes]))
    return tuple(views)


def what_happened(run: RunRecord) -> tuple[dict[str, str], dict[str, str]]:
    """Return the edits of best.onnx by node, and the reasons for skips in it (without a winner: in all candidates)."""
    winner = run.trial(run.winner)
    trials: Sequence[TrialRecord] = run.trials if winner is None else (winner,)
    why = {s.target: s.reason for trial in trials for step in trial.steps for s in step.skipped}
    done: dict[str, str] = {}
    for step in () if winner is None else winner.steps:
        for edit in step.edits:
            done[edit.target] = f"{done[edit.target]}; {edit.action}" if edit.target in done else edit.action
    return done, {name: reason for name, reason in why.items() if name not in done}


def _left(reason: str | None) -> str | None:
    return None if reason is None else f"skipped: {reason}"


def _without_conversions(nodes: Sequence[Drawn]) -> list[Drawn]:
    """Leave out Q and DQ nodes: they outnumber the layers, and the colours of their neighbours mark INT8."""
    makers: list[tuple[int, ...]] = []
    kept: list[Drawn] = []
    for node in nodes:
        read = tuple(sorted({maker for i in node.inputs for maker in makers[i]}))
        if node.op_type in _CONVERSIONS:
            makers.append(read)
        else:
            makers.append((len(kept),))
            kept.append(Drawn(node.name, node.op_type, node.kind, node.about, read))
    return kept


def _folded(nodes: Sequence[Drawn]) -> list[Drawn]:
    """Merge chains of unchanged nodes into one node."""
    readers = [0] * len(nodes)
    for node in nodes:
        for start in node.inputs:
            readers[start] += 1
    place: list[int] = []
    members: list[list[int]] = []
    for index, node in enumerate(nodes):
        before = node.inputs[0] if len(node.inputs) == 1 else None
        joins = before is not None and readers[before] == 1 and node.kind == nodes[before].kind == "same"
        if joins and before is not None:
            place.append(place[before])
            members[place[before]].append(index)
        else:
            place.append(len(members))
            members.append([index])
    folded = []
    for group in members:
        first = nodes[group[0]]
        many = f"{first.op_type} and {len(group) - 1} more"
        about = first.about if len(group) == 1 else f"{len(group)} nodes: " + ", ".join(nodes[i].name for i in group)
        read = tuple(sorted({place[i] for i in first.inputs}))
        folded.append(Drawn(first.name, first.op_type if len(group) == 1 else many, first.kind, about[:600], read))
    return folded


def _svg(nodes: Sequence[Drawn], title: str) -> Markup:
    found: GraphLayout = layout([n.inputs for n in nodes])
    width, height = found.size
    parts = [
        Markup(
            '<svg class="graph" role="img" aria-label="{}" viewBox="0 0 {:.0f} {:.0f}" data-w="{:.0f}" data-h="{:.0f}">'
        ).format(title, max(width, 1), max(height, 1), max(width, 1), max(height, 1))
    ]
    for start, end, bends in found.edges:
        eight = nodes[start].kind == nodes[end].kind == "int8"
        points = [(found.places[start][0], found.places[start][1] + HEIGHT / 2), *bends]
        points.append((found.places[end][0], found.places[end][1] - HEIGHT / 2))
        parts.append(Markup('<path class="e{}" d="{}"/>').format(" int8" if eight else "", _path(points)))
    for (x, y), node in zip(found.places, nodes, strict=True):
        parts.append(
            Markup(
                '<g class="n {}" data-name="{}" data-about="{}"><title>{}\n{}: {}</title>'
                '<rect x="{:.1f}" y="{:.1f}" width="{:.0f}" height="{:.0f}" rx="5"/>'
                '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
            ).format(
                node.kind, node.name, f"{node.op_type}: {node.about}", node.name, node.op_type, node.about,
                x - WIDTH / 2, y - HEIGHT / 2, WIDTH, HEIGHT, x, y + 4, _short(node.op_type),
            )
        )  # fmt: skip
    return Markup("\n").join([*parts, Markup("</svg>")])


def _short(text: str) -> str:
    return text if len(text) <= 20 else text[:19] + "…"


def _path(points: Sequence[tuple[float, float]]) -> str:
    (x, y), words = points[0], [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for nx, ny in points[1:]:
        middle = (y + ny) / 2
        words.append(f"C{x:.1f} {middle:.1f} {nx:.1f} {middle:.1f} {nx:.1f} {ny:.1f}")
        x, y = nx, ny
    return "".join(words)
