"""The legend of the candidate names in a run."""

from onnxopt.document.blocks import Column, Table
from onnxopt.record.run import RunRecord
from onnxopt.search.candidate_names import legend_of


def names_table(run: RunRecord) -> Table | None:
    """Return one row per part of the candidate names in `run`, with its meaning; None without any."""
    rows = legend_of(trial.name for trial in run.trials)
    return Table((Column("part of a name"), Column("meaning")), rows) if rows else None
