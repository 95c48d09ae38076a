"""A run on disk as an object: its record, its report, its model; and several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document.blocks import Displayed, Document
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import TrialRecord
from onnxopt.report.card import to_card
from onnxopt.report.summary import summary
from onnxopt.run.folder import BEST
from onnxopt.run.runs import differing_facts, page_of, read_record, runs_document


@dataclass(frozen=True)
class Run(Displayed):
    """A run of `optimize`.

    Attributes:
        folder: the folder with best.onnx, run.json, report.html and MANIFEST.sha256.
        record: content of run.json.
    """

    folder: Path
    record: RunRecord

    @property
    def best(self) -> Path:
        """The model file."""
        return self.folder / BEST

    @cached_property
    def model(self) -> ir.Model:
        """The model in best.onnx, read when it is first used.

        Raises:
            FileError: ONX501 the run ended before it wrote a model.
        """
        return model_file.load(self.best)

    @property
    def won(self) -> bool:
        """Whether a candidate won; else best.onnx is the baseline."""
        return self.record.status == "won"

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every candidate that was measured, in the order of the search."""
        return self.record.trials

    def report(self, out: str | Path | None = None, *, overwrite: bool = False) -> Path:
        """Return the HTML report; it is written if `out` names a file for it, or the folder has none.

        Raises:
            FileError: ONX502 `out` exists, ONX503 it cannot be written.
        """
        return page_of(self.folder, self.record, None if out is None else Path(out), overwrite=overwrite)

    @property
    def document(self) -> Document:
        """The table of the candidates and the findings."""
        return summary(self.record, self.folder)


@dataclass(frozen=True)
class ComparedRuns(Displayed):
    """Several runs side by side.

    Attributes:
        runs: the runs in the order given.
        differences: sentences on the settings, data and machines that differ.
        document: the same as a table.
    """

    runs: tuple[Run, ...]
    differences: tuple[str, ...]
    document: Document = field(repr=False)


AnyRun = str | Path | Run
"""A run folder, the run.json in it, or the run as an object."""


def read_run(run: str | Path) -> Run:
    """Open a run again that `optimize` wrote: its record with every trial, its report and its model.

    Args:
        run: the run folder, or the run.json in it.

    Raises:
        FileError: ONX501 the folder has no run.json, ONX505 it cannot be read or is of another version.
    """
    path = Path(run)
    record = read_record(path)
    return Run(path if path.is_dir() else path.parent, record)


def compare_runs(runs: Sequence[AnyRun]) -> ComparedRuns:
    """Show runs side by side, with the settings, data and machines that differ.

    Args:
        runs: run folders, or runs as objects.

    Raises:
        FileError: as `read_run`.
    """
    found = tuple(one if isinstance(one, Run) else read_run(one) for one in runs)
    folders, records = [run.folder for run in found], [run.record for run in found]
    return ComparedRuns(found, tuple(differing_facts(folders, records)), runs_document(folders, records))


def card(run: AnyRun) -> str:
    """Return a block for a model card, in Markdown: changes, measured cost and gain, machine, caveats.

    Args:
        run: a run folder, or a run as an object.

    Raises:
        FileError: as `read_run`.
    """
    return to_card((run if isinstance(run, Run) else read_run(run)).record)
