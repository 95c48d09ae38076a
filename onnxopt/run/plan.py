"""The plan of a run, for `--dry-run`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxopt.catalog import format_passes
from onnxopt.document.blocks import Column, Document, Facts, Table, Text
from onnxopt.options.search import SearchOptions
from onnxopt.run.folder import RunFolder
from onnxopt.run.job import prepare
from onnxopt.search.candidates import first_candidates
from onnxopt.search.workers.runner import judge_of

_FEW = 64
"""Number of samples for a trial run of the baseline and the metric."""


def plan_document(
    model: Path, data: str, options: SearchOptions, *, out: Path, overwrite: bool, rest: Mapping[str, Any]
) -> Document:
    """Run the checks of `optimize` before its start, and return the planned candidates.

    Raises:
        OnnxoptError: as `onnxopt.optimize` before a candidate is tried.
    """
    folder = RunFolder(out, overwrite)
    folder.refuse(model, (data, rest.get("labels"), rest.get("calibration")))
    folder.release()
    job = prepare(model, data, options, **rest)
    few = job.parts.search.take(min(_FEW, len(job.parts.search)))
    judge = judge_of(job.model, few, job.metric, job.settings.runtime, seed=job.settings.seed, tasks=job.settings.tasks)
    judge.baseline()
    parts = {"calibration": job.parts.calibration, "search": job.parts.search, "hold-out": job.parts.holdout}
    candidates = first_candidates()
    metric = "fidelity" if job.metric is None else job.metric.name
    facts = Facts(
        (
            *((f"{name} part", f"{len(samples)} samples of {samples.name}") for name, samples in parts.items()),
            ("metric", metric),
            ("reason", judge.choice),
            ("budget", str(job.settings.budget)),
            ("goal", job.settings.goal.value),
            ("target", job.settings.target),
            ("output", str(out)),
        )
    )
    table = Table((Column("candidate"), Column("passes")), tuple((c.name, format_passes(c.passes)) for c in candidates))
    notes = Text(
        (
            "If no candidate is clearly within budget, the most sensitive layers stay in float.",
            "Dry run: nothing was written.",
        )
    )
    plan = {
        "parts": {name: {"source": s.name, "samples": len(s)} for name, s in parts.items()},
        "metric": metric,
        "max_drop": str(job.settings.budget),
        "goal": job.settings.goal.value,
        "target": job.settings.target,
        "candidates": [{"name": c.name, "passes": format_passes(c.passes)} for c in candidates],
    }
    return Document((facts, table, notes), plan)
