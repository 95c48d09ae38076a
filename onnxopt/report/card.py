"""The optimization section of a model card."""

from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Document, Facts, Text
from onnxopt.document.markdown import to_markdown
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import ProofRecord, ScoreRecord
from onnxopt.report.caveats import caveats
from onnxopt.report.tables import judged_by


def to_card(run: RunRecord) -> str:
    """Return the section in Markdown: source model, passes, measured cost and gain, machine, caveats."""
    winner = run.trial(run.winner) if run.status == "won" else None
    proof = next((p for p in run.proofs if p.accepted), None)
    best = sum(file.size_bytes for file in run.best)
    version = run.environment.versions.get("onnxopt") or "unknown"
    pairs = [
        ("Made from", f"{Path(run.model.path).name or 'a model in memory'}, SHA-256 {run.model.sha256 or 'unknown'}"),
        ("Made by", f"onnxopt {version}: {'no change' if winner is None else winner.passes}"),
        *((file.name, f"SHA-256 {file.sha256}") for file in run.best),
        ("Size", f"{units.size(run.model.size_bytes)} before, {units.size(best)} after"),
    ]
    if winner is not None and proof is not None:
        pairs += _proved(run, proof)
    settings, machine = run.settings, run.environment
    pairs += [
        ("Data", f"{run.data.holdout.source}: {run.data.calibration.samples} calibration, "
                 f"{run.data.search.samples} search and {run.data.holdout.samples} hold-out samples"),
        ("Measured on", f"{machine.cpu}, {units.many(settings.threads, 'thread')}, provider {settings.provider}, "
                        f"ONNX Runtime {machine.versions.get('onnxruntime') or 'unknown'}"
                        f"{'' if settings.device is None else f'; latency on {settings.device}'}"),
    ]  # fmt: skip
    lines = [f"- {caveat.text}" for caveat in caveats(run)]
    trust = (Text(("### Caveats",)), Text(tuple(lines))) if lines else ()
    said = Text(tuple(filter(None, ("## Optimization", run.reason, run.warning))))
    return to_markdown(Document((said, Facts(tuple(pairs)), *trust)))


def _proved(run: RunRecord, proof: ProofRecord) -> list[tuple[str, str]]:
    judged = judged_by(run)
    speedup = proof.latency.speedup
    before, after = (_score(score, run.unit) for score in (proof.baseline, proof.score))
    slow, fast = (units.significant(latency.p50_ms) for latency in (proof.baseline_latency, proof.latency))
    gained = (
        ""
        if speedup is None
        else f": {units.times(speedup.value or 0)} {units.bounds(speedup.low or 0, speedup.high or 0)}"
    )
    return [
        (judged, f"{before} before, {after} after, on {proof.score.n} samples"),
        ("Probability that the drop is within budget", f"{units.percent(proof.confidence)}{_standing(run)}"),
        ("Latency, median", f"{slow} ms before, {fast} ms after{gained}"),
    ]


def _standing(run: RunRecord) -> str:
    return {"proven": " (proven)", "likely": " (likely, not proven)"}.get(run.standing or "", "")


def _score(score: ScoreRecord, unit: str) -> str:
    return units.score(float("nan") if score.value is None else score.value, unit)
