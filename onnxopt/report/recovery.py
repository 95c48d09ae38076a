"""What recovery gave back of what pruning and factorizing cost."""

from onnxopt.document import units
from onnxopt.document.blocks import Column, Table
from onnxopt.record.run import RunRecord


def recovery_table(run: RunRecord) -> Table | None:
    """Return one row per stage of the winner's recovery; None where it has none."""
    if not run.recovered:
        return None
    drop = "drop, points" if run.unit == "share" else "drop"
    rows = tuple((stage.by, _points(stage.drop, run)) for stage in run.recovered)
    return Table((Column("made up for by"), Column(drop, number=True)), rows, "The winner on the search part")


def recovery_sentence(run: RunRecord) -> str:
    """Return what the winner would drop without recovery and what each kind of it leaves; "" where it has none."""
    if not run.recovered:
        return ""
    first, *rest = run.recovered
    left = ", ".join(f"{stage.by} leaves {_points(stage.drop, run)}" for stage in rest)
    what = "points" if run.unit == "share" else run.metric
    return f"What was removed costs {_points(first.drop, run)} {what} by itself on the search part: {left}."


def _points(drop: float | None, run: RunRecord) -> str:
    return units.points(float("nan") if drop is None else drop, run.unit)
