"""The search of a folder as a table."""

from dataclasses import asdict
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.options.lengths import words_of
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.search import BASELINE, PartsFound, TriedWhole
from onnxopt.tasks.variants.shown import name_in


def parts_document(folder: Path, job: PartsJob, found: PartsFound, written: Path | None) -> Document:
    """Return one row per form of a part, and sentences on what was tried as a whole."""
    columns = (Column("part"), Column("form"), *(Column(t, number=True) for t in ("smaller", "drop", "ms saved")))
    rows = tuple(
        (one.form.part, one.form.name, units.size(one.saved_bytes), f"{one.drop:.4f}", units.significant(one.saved_ms))
        for one in found.alone
    )
    files = "; ".join(
        f"{part}: {', '.join(name_in(path, folder) for path in paths)}" for part, paths in job.parts.files.items()
    )
    first = found.speed[BASELINE]
    lines = [
        f"Parts: {files}.",
        f"Judged by the probability kept per token, on {len(job.search)} texts for the search and {len(job.holdout)} "
        f"for the proof; budget {job.allowed:.4f} for the whole folder.",
        *([] if job.options.sequence is None else [_timed(job)]),
        f"Baseline: first token {units.significant(first.first_token_ms)} ms, "
        f"{units.significant(first.tokens_per_s)} tokens/s.",
        *(f"{name} was not made: {why}." for name, why in found.left.items()),
        *(_tried(one) for one in found.tried),
        "No combination of forms is within the budget and a gain."
        if not found.tried
        else f"Written: {written}."
        if written is not None
        else "No new folder was written.",
    ]
    content = {
        "folder": str(folder),
        "parts": {part: [name_in(path, folder) for path in paths] for part, paths in job.parts.files.items()},
        "budget": job.allowed,
        "texts": {"search": len(job.search), "holdout": len(job.holdout)},
        "length": asdict(job.length),
        "sequence": job.options.sequence,
        "baseline": asdict(first),
        "forms": [
            {
                "part": one.form.part,
                "form": one.form.name,
                "passes": one.form.passes,
                "drop": one.drop,
                "saved_ms": one.saved_ms,
                "saved_bytes": one.saved_bytes,
            }
            for one in found.alone
        ],
        "not_made": found.left,
        "tried": [_data(one) for one in found.tried],
        "written": None if written is None else str(written),
    }
    return Document((Table(columns, rows), Text(tuple(lines))), content)


def _timed(job: PartsJob) -> str:
    shares = {job.length.prompt: job.timing.prompts} | ({1: job.timing.steps} if job.timing.steps else {})
    return f"Times are weighted: a prompt and single tokens behind it, {words_of(shares)}."


def _tried(one: TriedWhole) -> str:
    forms = " and ".join(f"the {form.part} in {form.name}" for form in one.forms)
    speed = one.speed.text_speedup
    figures = (
        f"drop {one.drop.value:.4f} [{one.drop.interval.low:.4f}, {one.drop.interval.high:.4f}], probability of being "
        f"within the budget {one.probability:.1%}, {units.size(one.size_bytes)}"
    ).replace("%", " %")
    if speed is not None:
        figures += f", {units.times(speed.value)} [{speed.low:.2f}, {speed.high:.2f}] as fast for a text"
    return f"Together, {forms}: {figures}. " + (
        f"Not used: {one.reason}." if one.reason else f"Winner ({one.standing})."
    )


def _data(one: TriedWhole) -> dict[str, object]:
    return {
        "forms": {form.part: form.name for form in one.forms},
        "drop": one.drop.value,
        "drop_interval": [one.drop.interval.low, one.drop.interval.high],
        "probability": one.probability,
        "required": one.required,
        "standing": one.standing,
        "reason": one.reason,
        "speed": asdict(one.speed),
        "size_bytes": one.size_bytes,
    }
