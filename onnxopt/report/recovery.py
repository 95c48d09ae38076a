"""The winner's drop by recovery stage: after pruning and factorization alone, and after each recovery method."""

from onnxopt.document import units
from onnxopt.document.blocks import Column, Table
from onnxopt.record.run import RunRecord


def recovery_table(run: RunRecord) -> Table | None:
    """Return one row per stage of the winner's recovery; None where it has none."""
    if not run.recovered:
        return None
    drop = "drop, points" if run.unit == "share" else "drop"
    rows = tuple((_WORDS.get(stage.by, stage.by), _points(stage.drop, run)) for stage in run.recovered)
    return Table((Column("recovery"), Column(drop, number=True)), rows, "The winner on the search samples")


def recovery_sentence(run: RunRecord) -> str:
    """Return the winner's drop without recovery and after each stage; "" without any."""
    if not run.recovered:
        return ""
    first, *rest = run.recovered
    left = ", ".join(f"after {_WORDS.get(stage.by, stage.by)} {_points(stage.drop, run)}" for stage in rest)
    unit = "points" if run.unit == "share" else run.metric
    return f"{_removal(run)} alone costs {_points(first.drop, run)} {unit}; {left} remain (search samples)."


_WORDS = {"nothing": "none", "least squares": "least-squares compensation"}
"""Stages as a reader sees them; the record keeps their short names."""


def _removal(run: RunRecord) -> str:
    winner = run.trial(run.winner)
    passes = "" if winner is None else winner.passes
    kinds = [word for part, word in (("prune", "pruning"), ("factorize", "factorization")) if part in passes]
    return (" and ".join(kinds) or "removal").capitalize()


def _points(drop: float | None, run: RunRecord) -> str:
    return units.points(float("nan") if drop is None else drop, run.unit)
