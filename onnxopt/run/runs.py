"""Finished runs: read, opened in a browser, compared."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.errors import FileError, first_line
from onnxopt.files import read_bytes
from onnxopt.record.run import RunRecord
from onnxopt.report.page import to_page
from onnxopt.run.folder import PAGE, RECORD

_VERSION = RunRecord.model_fields["schema_version"].default


def read_record(folder: Path) -> RunRecord:
    """Return the record in the run.json of a folder (or in the file itself).

    Raises:
        FileError: ONX501 the folder has no run.json, ONX505 it cannot be read or is of another version.
    """
    path = folder / RECORD if folder.is_dir() else folder
    if not path.is_file():
        hint = "Give the folder that `onnxopt optimize --out` wrote."
        raise FileError("ONX501", "there is no run", where=str(path), hint=hint)
    try:
        return RunRecord.model_validate_json(read_bytes(path))
    except OSError as error:
        raise FileError("ONX505", "the record cannot be read", where=str(path), why=error.strerror or "") from error
    except ValidationError as error:
        # A record of another version lacks fields too, which follow from the version.
        first = min(error.errors(), key=lambda found: found["loc"] != ("schema_version",))
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise FileError(
            "ONX505",
            "this version cannot read the record",
            where=str(path),
            why=f"{where}: {first_line(ValueError(first['msg']))}",
            hint=f"It must have schema version {_VERSION}: repeat the run with this version of onnxopt.",
        ) from error


def page_of(folder: Path, run: RunRecord, out: Path | None = None, *, overwrite: bool = False) -> Path:
    """Return the HTML report of a run; written when `out` is given, or the folder has none.

    Raises:
        FileError: ONX502 `out` exists, ONX503 it cannot be written.
    """
    path = out if out is not None else (folder if folder.is_dir() else folder.parent) / PAGE
    if out is not None or not path.is_file():
        model_file.atomic_write_text(path, to_page(run), overwrite=overwrite)
    return path


def open_page(path: Path) -> bool:
    """Show a file in the user's browser; return whether one was found."""
    import webbrowser

    # Without a screen a browser of text would take over the terminal.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return webbrowser.open(path.resolve().as_uri())


def runs_document(folders: Sequence[Path], runs: Sequence[RunRecord]) -> Document:
    """Return one row per run, and the differences between their settings."""
    titles = ("speed-up", "p50 ms", "size", "drop", "probability")
    columns = (Column("run"), Column("model"), *(Column(t, number=True) for t in titles), Column("result"))
    rows = tuple(_row(folder, run) for folder, run in zip(folders, runs, strict=True))
    warned = [f"{folder}: {run.warning}" for folder, run in zip(folders, runs, strict=True) if run.warning]
    lines = [*differing_facts(folders, runs), *warned]
    data = {
        "runs": [{"folder": str(f), "record": r.model_dump(mode="json")} for f, r in zip(folders, runs, strict=True)]
    }
    return Document((Table(columns, rows), Text(tuple(lines))), data)


def differing_facts(folders: Sequence[Path], runs: Sequence[RunRecord]) -> list[str]:
    """Return a sentence for each setting, version, model, data set and machine that is not the same in all runs."""
    lines = _settings_that_differ(folders, runs)
    if len({run.model.sha256 for run in runs}) > 1:
        lines.append("The runs start from different models.")
    if len({run.data.holdout.fingerprint for run in runs}) > 1:
        lines.append("The runs have different hold-out samples: do not compare their drops.")
    if len({(run.environment.cpu, run.settings.threads) for run in runs}) > 1:
        lines.append("The runs have different processors or threads: do not compare their milliseconds.")
    return lines


def _row(folder: Path, run: RunRecord) -> tuple[str, ...]:
    proof, winner = next((p for p in run.proofs if p.accepted), None), run.trial(run.winner)
    name = Path(run.model.path).name or "in memory"
    if run.status != "won" or proof is None or winner is None or proof.latency.speedup is None:
        p50 = "-" if run.baseline is None or run.baseline.latency is None else run.baseline.latency.p50_ms
        shown = p50 if isinstance(p50, str) else units.significant(p50)
        size = units.size(run.model.size_bytes)
        return (str(folder), name, "-", shown, size, "-", "-", run.status.replace("-", " "))
    speedup = proof.latency.speedup
    unit = " points" if run.unit == "share" else ""
    return (
        str(folder),
        name,
        f"{units.times(speedup.value or 0)}\n{units.bounds(speedup.low or 0, speedup.high or 0)}",
        f"{units.significant(proof.latency.p50_ms)}\nwas {units.significant(proof.baseline_latency.p50_ms)}",
        f"{units.size(winner.size_bytes or 0)}\n{units.times(run.model.size_bytes / (winner.size_bytes or 1))}",
        f"{units.points(proof.drop.value if proof.drop.value is not None else float('inf'), run.unit)}{unit}",
        units.percent(proof.confidence),
        winner.name,
    )


def _settings_that_differ(folders: Sequence[Path], runs: Sequence[RunRecord]) -> list[str]:
    """Return the settings and versions that are not the same in all runs."""
    rows = [
        {
            **run.settings.model_dump(mode="json"),
            "metric": run.metric,
            "data": run.data.holdout.source,
            "processor": run.environment.cpu,
            **{f"version of {name}": version for name, version in run.environment.versions.items()},
        }
        for run in runs
    ]
    lines = []
    for key in rows[0]:
        values = [one.get(key) for one in rows]
        if any(value != values[0] for value in values):
            said = ", ".join(f"{value} in {folder}" for value, folder in zip(values, folders, strict=True))
            lines.append(f"{key.replace('_', ' ')}: {said}.")
    return lines or ["All settings and versions are the same."]
