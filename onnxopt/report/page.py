"""The report of a run as one self-contained HTML file."""

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from onnxopt.document import units
from onnxopt.record.run import RunRecord
from onnxopt.record.steps import counted
from onnxopt.record.trial import StepRecord
from onnxopt.report import charts_layers, charts_search
from onnxopt.report.caveats import caveats
from onnxopt.report.charts import Chart
from onnxopt.report.device_result import device_table
from onnxopt.report.findings import findings
from onnxopt.report.graph_view import KINDS, graph_views
from onnxopt.report.layer_rows import layer_rows
from onnxopt.report.recovery import recovery_table
from onnxopt.report.summary import headline, judged_lines, tiles
from onnxopt.report.tables import choice_table, names_table, proofs_table, trials_table

_SECTIONS = {
    "verdict": "Verdict",
    "choice": "Choice",
    "caveats": "Caveats",
    "measured": "Candidates",
    "proof": "Proof",
    "latency": "Latency",
    "devices": "Devices",
    "recovery": "Recovery",
    "graph": "Graph",
    "layers": "Layers",
    "classes": "Classes",
    "ranges": "Ranges",
    "again": "Reproduce",
}


def to_page(run: RunRecord) -> str:
    """Return the HTML of the report."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"size": units.size, "seconds": units.seconds}
    drawn = _charts(run)
    found = {"choice": choice_table(run), "proof": proofs_table(run), "graph": graph_views(run)}
    regained = recovery_table(run)
    devices = [(device, device_table(device)) for device in run.devices]
    shown = {
        **dict.fromkeys(_SECTIONS, True),
        **{name: bool(value) for name, value in found.items()},
        "latency": bool(drawn["distribution"] or drawn["drift"]),
        "devices": bool(devices),
        "recovery": bool(drawn["recovery"] or regained),
        "classes": bool(drawn["classes"]),
        "ranges": bool(drawn["ranges"]),
    }
    script, plotly = _asset("page.js"), _plotly()
    return environment.from_string(_asset("page.html")).render(
        run=run,
        policy=_policy(plotly, script),
        css=Markup(_asset("page.css")),
        script=Markup(script),
        plotly=Markup(plotly),
        contents={name: title for name, title in _SECTIONS.items() if shown[name]},
        mood={"won": "won", "kept-original": "kept"}.get(run.status, "stopped"),
        headline=headline(run),
        tiles=tiles(run),
        sentences=[*judged_lines(run), *findings(run)],
        best=found["choice"],
        caveats=caveats(run),
        table=trials_table(run),
        names=names_table(run),
        proofs=found["proof"],
        graphs=found["graph"],
        regained=regained,
        devices=devices,
        kinds=KINDS,
        layers=layer_rows(run),
        charts=drawn,
        figures=[{"name": c.name, "figure": c.figure, "height": c.height} for c in drawn.values() if c is not None],
        class_line=_class_line(run),
        range_line=_range_line(run),
        shown=_shown(run),
        done=_done,
    )


def _charts(run: RunRecord) -> dict[str, Chart | None]:
    classes = None if run.analysis is None else run.analysis.classes
    confused = classes is not None and any(map(any, classes.before)) and classes.before != classes.after
    return {
        "pareto": charts_search.pareto_chart(run),
        "distribution": charts_search.distribution_chart(run),
        "drift": charts_search.drift_chart(run),
        "recovery": charts_search.recovery_chart(run),
        "layers": charts_layers.layers_chart(run),
        "sensitivity": charts_layers.sensitivity_chart(run),
        "classes": None if classes is None else charts_layers.classes_chart(classes),
        "confusion": charts_layers.confusion_chart(classes) if classes is not None and confused else None,
        "ranges": charts_layers.ranges_chart(run),
    }


@cache
def _asset(name: str) -> str:
    return files("onnxopt.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _policy(*scripts: str) -> str:
    """Return the content security policy: run these scripts alone, and fetch nothing."""
    hashes = (b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _class_line(run: RunRecord) -> str:
    found = run.analysis
    if found is None or found.classes is None:
        return ""
    listed = len(found.classes.labels)
    most = f"; the {listed} most frequent classes" if sum(found.classes.samples) < found.samples else ""
    changed = units.many(found.changed_count, "answer")
    return f"{changed} of {found.samples} on the hold-out samples changed{most}."


def _range_line(run: RunRecord) -> str:
    found = run.analysis
    if found is None or not found.ranges:
        return ""
    over = sum((r.clipped or 0) > 0 for r in found.ranges)
    return (
        f"{over} of {units.many(len(found.ranges), 'quantized activation')} clip values on "
        f"{units.many(found.range_samples, 'search sample')}."
    )


def _shown(run: RunRecord) -> dict[str, str]:
    """Return the settings, data and environment of the run."""
    data, settings, environment = run.data, run.settings, run.environment
    return {
        "Model": f"{run.model.path or 'in memory'} ({units.size(run.model.size_bytes)}, opset {run.model.opset})",
        "SHA-256 of the model": run.model.sha256 or "-",
        "Calibration samples": f"{data.calibration.samples} of {data.calibration.source}",
        "Search samples": f"{data.search.samples} of {data.search.source}",
        "Hold-out samples": f"{data.holdout.samples} of {data.holdout.source}",
        "Fingerprints of the data": ", ".join(
            part.fingerprint[:16] for part in (data.calibration, data.search, data.holdout)
        ),
        "Metric": f"{run.metric} ({run.kind})",
        "Budget": settings.max_drop,
        "Goal": settings.goal.value,
        "Required confidence": units.percent(settings.confidence, limit=True),
        "Latency": f"batch size {settings.batch_size}, {units.many(settings.threads, 'thread')}, provider "
        f"{settings.provider}, optimization {settings.optimization}"
        + "".join(f", {key}={value}" for key, value in settings.session_options.items())
        + ("" if settings.device is None else f", on {settings.device}"),
        "Target": settings.target,
        "Seed": str(settings.seed),
        "Processor": f"{environment.cpu} ({environment.detected_target}, {environment.usable_cores} cores usable)",
        "Instruction sets": ", ".join(environment.isa) or "unknown",
        "System": environment.os + (", emulated: latency has no meaning" if environment.emulated else ""),
        "Versions": ", ".join(
            f"{name} {v}" for name, v in {"Python": environment.python, **environment.versions}.items()
        ),
        "Started": f"{run.started}, took {units.seconds(run.duration_s)}",
    }


def _done(step: StepRecord) -> str:
    return counted(edit.action for edit in step.edits) or "nothing to do"
