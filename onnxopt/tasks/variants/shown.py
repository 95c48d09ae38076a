"""Judged files as a table, and as a block for a model card."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.document.markdown import to_markdown
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.statistics import Interval
from onnxopt.record.trial import DropRecord, ScoreRecord
from onnxopt.tasks.variants.reference import Opened
from onnxopt.tasks.variants.verdict import JudgedFile, Standing

_COLUMNS = (Column("file"), Column("type"), Column("size"), Column("loads"), Column("fidelity"), Column("verdict"))


def files_table(files: Iterable[JudgedFile], folder: Path) -> Table:
    """Return one row per file: size beside the baseline's, whether it loads, fidelity with its interval, verdict."""
    rows = (
        (
            name_in(one.path, folder),
            one.label or "float32",
            size_words(one),
            "yes" if one.loads else "no",
            fidelity_words(one, "\n"),
            one.standing.value,
        )
        for one in files
    )
    return Table(_COLUMNS, tuple(rows))


def verdict_sentences(files: Iterable[JudgedFile], folder: Path) -> tuple[str, ...]:
    """Return a sentence for each verdict that needs one."""
    return tuple(f"{name_in(f.path, folder)} is {f.standing.value}: {f.reason}." for f in files if f.reason)


def size_words(one: JudgedFile) -> str:
    """Return the size of a file, and how much smaller than the baseline it is."""
    if one.ratio is None or one.standing is Standing.BASELINE:
        return units.size(one.size_bytes)
    return f"{units.size(one.size_bytes)}\n{units.smaller(one.ratio)}"


def fidelity_words(one: JudgedFile, between: str) -> str:
    """Return the agreement with the baseline and its interval, 0 for none; "-" where it was not measured."""
    if one.score is None:
        return "-"
    found = one.score.interval
    low, value, high = (max(number, 0.0) for number in (found.low, one.score.value, found.high))
    return f"{units.score(value, one.unit)}{between}{units.points_interval(Interval(low, value, high), one.unit)}"


def name_in(path: Path, folder: Path) -> str:
    """Return the path of a file inside a folder."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def file_data(one: JudgedFile) -> dict[str, object]:
    """Return the figures of a file, JSON-ready."""
    return {
        "path": str(one.path),
        "type": one.label,
        "loads": one.loads,
        "verdict": one.standing.value,
        "reason": one.reason,
        "size_bytes": one.size_bytes,
        "ratio": one.ratio,
        "metric": one.metric,
        "unit": one.unit,
        "score": None if one.score is None else ScoreRecord.model_validate(one.score).model_dump(mode="json"),
        "drop": None if one.drop is None else DropRecord.model_validate(one.drop).model_dump(mode="json"),
    }


def card_text(
    baseline: Path, rows: Sequence[tuple[JudgedFile, str]], left: Mapping[str, str], reference: Opened
) -> str:
    """Return the block of a model card in Markdown.

    Args:
        baseline: the float32 file.
        rows: each file that was kept, with its pipeline.
        left: files that were not made, and why.
        reference: the baseline and the inputs that judged them.
    """
    columns = (
        Column("File"),
        Column("Type"),
        Column("Size"),
        Column(f"Fidelity to {baseline.name}"),
        Column("Made by"),
    )
    table = [(baseline.name, "float32", units.size(reference.size_bytes), "", "")]
    table += [
        (name_in(f.path, baseline.parent), f.label, size_words(f).replace("\n", ", "), fidelity_words(f, " "), passes)
        for f, passes in rows
    ]
    facts = environment(reference.runtime)
    lines = [
        f"{reference.words} Intervals hold the true value with a probability of 95 %. "
        "Fidelity is agreement with the float32 file, not accuracy.",
        f"Measured on {facts['cpu']}, ONNX Runtime {facts['versions']['onnxruntime']}, by onnxopt "
        f"{facts['versions']['onnxopt']}.",
        *(f"Not made: {name}, because {why}." for name, why in left.items()),
    ]
    return to_markdown(Document((Text(("## Variants",)), Table(columns, tuple(table)), Text(tuple(lines)))))
