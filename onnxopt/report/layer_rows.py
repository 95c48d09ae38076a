"""One row per layer of a run: its time, and its edit or the reason to skip it."""

from dataclasses import dataclass

from onnxopt.document import units
from onnxopt.record.part import Number
from onnxopt.record.run import RunRecord
from onnxopt.report.graph_view import what_happened


@dataclass(frozen=True)
class LayerRow:
    """One layer, as text; `skip` for a layer that was skipped with a reason."""

    name: str
    op_type: str
    before: str
    after: str
    runs_as: str
    said: str
    skip: bool


def layer_rows(run: RunRecord) -> tuple[LayerRow, ...]:
    """Return the timed layers, slowest first, then other layers with an edit or a skip."""
    if run.analysis is None:
        return ()
    done, why = what_happened(run)
    graph = run.analysis.before
    operators = {} if graph is None else {node.name: node.op_type for node in graph.nodes}
    timed = {layer.name for layer in run.analysis.layers}
    rows = [
        LayerRow(
            layer.name,
            layer.op_type,
            _ms(layer.before_ms),
            _ms(layer.after_ms),
            layer.runs_as or "-",
            _said(layer.name, done, why) or ("untouched" if layer.name in operators else "added"),
            layer.name in why,
        )
        for layer in run.analysis.layers
    ]
    rows += [
        LayerRow(name, operators.get(name, ""), "-", "-", "-", _said(name, done, why), name in why)
        for name in [*done, *why]
        if name not in timed
    ]
    return tuple(rows)


def _said(name: str, done: dict[str, str], why: dict[str, str]) -> str:
    return done.get(name) or (f"skipped: {why[name]}" if name in why else "")


def _ms(value: Number) -> str:
    return "-" if value is None else units.significant(value)
