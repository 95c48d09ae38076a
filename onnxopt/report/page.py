"""The report of a run as one HTML file that needs nothing else."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from onnxopt.report import units
from onnxopt.report.record import RunRecord, StepRecord
from onnxopt.report.steps import counted
from onnxopt.report.summary import findings, proofs_table, speed, trials_table


def to_page(run: RunRecord) -> str:
    """Return the HTML of the report."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"size": units.size, "seconds": units.seconds}
    template = environment.from_string(files("onnxopt.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        run=run,
        headline=_headline(run),
        sentences=findings(run),
        table=trials_table(run),
        proofs=proofs_table(run),
        shown=_shown(run),
        done=_done,
    )


def _headline(run: RunRecord) -> str:
    name = Path(run.model.path).name or "a model in memory"
    accepted = next((p for p in run.proofs if p.accepted), None)
    winner = run.trial(run.winner)
    if run.status == "won" and accepted is not None and winner is not None and accepted.latency.speedup is not None:
        faster = speed(accepted.latency.speedup).partition(" (")[0]
        return f"{name}: {faster}, {units.smaller(run.model.size_bytes / (winner.size_bytes or 1))}"
    return f"{name}: {'the original stays' if run.status == 'kept-original' else 'not finished'}"


def _shown(run: RunRecord) -> dict[str, str]:
    """Return the facts on how the run was made."""
    data, settings, environment = run.data, run.settings, run.environment
    return {
        "Model": f"{run.model.path or 'in memory'} ({units.size(run.model.size_bytes)}, opset {run.model.opset})",
        "SHA-256 of the model": run.model.sha256 or "-",
        "Calibration samples": f"{data.calibration.samples} of {data.calibration.source}",
        "Search samples": f"{data.search.samples} of {data.search.source}",
        "Hold-out samples": f"{data.holdout.samples} of {data.holdout.source}",
        "Judged by": f"{run.metric} ({run.kind})",
        "Allowed drop": settings.max_drop,
        "Goal": settings.goal,
        "Confidence asked for": units.percent(settings.confidence),
        "Latency": f"batch size {settings.batch_size}, {units.many(settings.threads, 'thread')}, provider "
        f"{settings.provider}, optimization {settings.optimization}"
        + "".join(f", {key}={value}" for key, value in settings.session_options.items()),
        "Target": settings.target,
        "Seed": str(settings.seed),
        "Processor": f"{environment.cpu} ({environment.detected_target}, {environment.usable_cores} cores usable)",
        "System": environment.os + (", emulated: latency means nothing here" if environment.emulated else ""),
        "Versions": ", ".join(
            f"{name} {v}" for name, v in {"Python": environment.python, **environment.versions}.items()
        ),
        "Started": f"{run.started}, took {units.seconds(run.duration_s)}",
    }


def _done(step: StepRecord) -> str:
    return counted(edit.action for edit in step.edits) or "nothing to do"
