"""The claims of a finished run, measured again on this machine (`onnxopt audit RUN`)."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import UsageError
from onnxopt.measure.latency import Latency, measure_latency
from onnxopt.measure.statistics import Interval
from onnxopt.pipeline import StageProgress
from onnxopt.record.options import KeptOptions
from onnxopt.record.recording import environment_record
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import IntervalRecord, ProofRecord
from onnxopt.run.finished import AnyRun, Run, read_run
from onnxopt.run.folder import MANIFEST, RECORD
from onnxopt.run.job import Job, prepare
from onnxopt.run.verify import Verification, verify
from onnxopt.search.baseline import PROOF_LATENCY
from onnxopt.search.proof.holdout import drawn
from onnxopt.search.timed_batches import timed_batches
from onnxopt.search.workers.runner import judge_of

_ONLY_ELSEWHERE = ("device", "cluster", "bench", "tls")
"""Options on where a search runs; an audit runs here."""


@dataclass(frozen=True)
class Claim:
    """One statement of a record, and its counterpart on this machine.

    Attributes:
        name: the figure.
        recorded: its recorded value, with the interval.
        found: the value found here.
        holds: whether the two agree; None where they cannot be compared.
    """

    name: str
    recorded: str
    found: str
    holds: bool | None


@dataclass(frozen=True)
class AuditedRun(Displayed):
    """The claims of a run beside new measurements.

    Attributes:
        folder: the run folder.
        claims: each with both values.
        passed: whether no claim is contradicted.
        document: one row per claim.
    """

    folder: Path
    claims: tuple[Claim, ...]
    passed: bool
    document: Document = field(repr=False)


def is_run(path: str | Path) -> bool:
    """Return whether a path is a run folder or the record of one."""
    return (Path(path) / RECORD).is_file() or (Path(path).name == RECORD and Path(path).is_file())


def audit_run(
    run: AnyRun,
    data: object = None,
    *,
    baseline: str | Path | None = None,
    session_options: tuple[tuple[str, str], ...] = (),
    progress: StageProgress | None = None,
) -> AuditedRun:
    """Check the files of a run, and measure the drop and the speed-up of its model again.

    The model is measured beside the baseline on the hold-out samples, with the recorded options. A figure agrees if its
    interval overlaps with the recorded one. Nothing in the folder is executed besides its model.

    Args:
        run: a run folder, or the run.json in it.
        data: the samples, if they were in memory or have moved.
        baseline: the baseline's file, if it was in memory or has moved.
        session_options: session entries of the search, which are not taken from a folder.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX110 the record lacks an option, or the search used code or entries that must be given.
        DataError: ONX201 to ONX209 the samples cannot be read.
        FileError: ONX501 there is no finished run, ONX505 it cannot be read.
    """
    opened = run if isinstance(run, Run) else read_run(run)
    record, checked = opened.record, verify(opened)
    claims = _file_claims(checked)
    proof, warning = _proof_of(record), ""
    if checked.passed and proof is not None:
        job = _job(opened, data, baseline, session_options)
        claims += [_baseline_claim(record, job), _samples_claim(record, job, moved=data is not None)]
        measured, warning = _measured(opened, job, proof, progress)
        claims += measured
    return _audited(opened.folder, claims, proof, checked, warning)


def _file_claims(checked: Verification) -> list[Claim]:
    wrong = [part for part in checked.files if not part.passed]
    found = "as written" if not wrong else "; ".join(f"{part.name}: {part.result}" for part in wrong)
    claims = [Claim("files", units.many(len(checked.files), "checksum"), found, not wrong)]
    if checked.outputs:
        off = [part for part in checked.outputs if not part.passed]
        found = "equal within the tolerance" if not off else "; ".join(f"{part.name} {part.result}" for part in off)
        claims.append(Claim("outputs", units.many(len(checked.outputs), "output"), found, not off))
    return claims


def _proof_of(record: RunRecord) -> ProofRecord | None:
    """Return the proof of the model in best.onnx; None for a run that kept its baseline."""
    if record.status != "won":
        return None
    return next((proof for proof in reversed(record.proofs) if proof.candidate == record.winner), None)


def _job(run: Run, data: object, baseline: str | Path | None, entries: tuple[tuple[str, str], ...]) -> Job:
    kept = _kept(run)
    # The audit runs here, wherever the search ran.
    here = kept.model_copy(update={"again": tuple(name for name in kept.again if name not in _ONLY_ELSEWHERE)})
    given = {"model": baseline, "data": data, "session_options": entries}
    arguments = here.arguments(run.folder, given, command="audit")
    # A drop and a speed-up are measured in the same way, whatever the search tried.
    options = replace(arguments.pop("options"), strategy=None, prune=False, train=False)
    return prepare(arguments.pop("model"), arguments.pop("data"), options, **arguments)


def _kept(run: Run) -> KeptOptions:
    kept, why = run.record.options, ""
    if kept is None:
        why = "its record has no options of the search"
    elif "metric" in kept.again:
        why = "its metric is code of the user, and no code of a run folder is executed"
    if kept is None or why:
        raise UsageError(
            "ONX110",
            "the claims of this run cannot be measured again",
            where=str(run.folder),
            why=why,
            hint="Check its files with `onnxopt verify`, and measure them with `onnxopt compare MODEL best.onnx`.",
        )
    return kept


def _baseline_claim(record: RunRecord, job: Job) -> Claim:
    here = None if job.path is None else model_file.sha256_of(job.path)
    if record.model.sha256 is None or here is None:
        return Claim("baseline", "in memory", "not compared", None)
    same = here == record.model.sha256
    return Claim("baseline", f"SHA-256 {record.model.sha256[:12]}..", "same" if same else f"{here[:12]}..", same)


def _samples_claim(record: RunRecord, job: Job, *, moved: bool) -> Claim:
    """Compare the hold-out samples; other ones that the user names are no contradiction."""
    part, here = record.data.holdout, job.parts.holdout
    recorded = f"{part.samples}, {part.fingerprint[:12]}.."
    if here.fingerprint == part.fingerprint:
        return Claim("hold-out samples", recorded, "same", True)
    return Claim("hold-out samples", recorded, f"others: {len(here)}", None if moved else False)


def _measured(run: Run, job: Job, proof: ProofRecord, progress: StageProgress | None) -> tuple[list[Claim], str]:
    """Return the claims that are measured, and the warning of the baseline's score, "" for none."""
    settings, model = job.settings, model_file.load(run.best)
    holdout = drawn(job.parts.holdout, proof.baseline.n, settings.seed)
    judge = judge_of(job.model, holdout, job.metric, settings.runtime, settings.seed, tasks=settings.tasks)
    counted = None if progress is None else lambda done, total: progress("samples", done, total)
    drop = judge.drop(judge.evaluate(model, progress=counted))
    unit = run.record.unit
    claims = [
        Claim(
            f"drop of {run.record.metric or 'fidelity'}{', points' if unit == 'share' else ''}",
            _drop_in_words(proof.drop.value, _interval(proof.drop.interval), unit),
            _drop_in_words(drop.value, drop.interval, unit),
            _overlap(_interval(proof.drop.interval), drop.interval),
        )
    ]
    if progress is not None:
        progress("latency", 0, 1)
    return [*claims, _speed_claim(run.record, proof, _timed(job, model))], judge.baseline().warning


def _timed(job: Job, model: ir.Model) -> Latency:
    settings = job.settings
    inputs = timed_batches(job.parts.search, job.model, settings).alternating
    models = {"baseline": job.model, "best": model}
    seconds = PROOF_LATENCY * settings.latency_s
    return measure_latency(models, inputs, settings.runtime, seconds=seconds, seed=settings.seed)["best"]


def _speed_claim(record: RunRecord, proof: ProofRecord, latency: Latency) -> Claim:
    before, now = proof.latency.speedup, latency.speedup
    recorded = proof.latency.unsure or "-" if before is None else _times(_interval(before))
    found = f"unsure: {latency.unsure}" if now is None else _times(now)
    if record.settings.device is not None:
        return Claim("speed-up", f"{recorded}, on a device", found, None)
    if before is None or now is None:
        return Claim("speed-up", recorded, found, None)
    agrees = _overlap(_interval(before), now)
    if not agrees and environment_record().cpu != record.environment.cpu:
        return Claim("speed-up", f"{recorded}, on {record.environment.cpu}", found, None)
    return Claim("speed-up", recorded, found, agrees)


def _interval(record: IntervalRecord) -> Interval:
    """Return a recorded interval; ends that are not finite, which a record has as null, are open."""
    low = -math.inf if record.low is None else record.low
    value = math.nan if record.value is None else record.value
    return Interval(low, value, math.inf if record.high is None else record.high, record.level)


def _overlap(one: Interval, other: Interval) -> bool:
    return bool(np.nextafter(one.low, -np.inf) <= other.high and other.low <= np.nextafter(one.high, np.inf))


def _drop_in_words(value: float | None, interval: Interval, unit: str) -> str:
    return f"{units.points(math.inf if value is None else value, unit)} {units.points_interval(interval, unit)}"


def _times(interval: Interval) -> str:
    return f"{units.times(interval.value)} {units.times_interval(interval)}"


_WORDS = {True: "agrees", False: "DIFFERS", None: "not comparable"}


def _audited(
    folder: Path, claims: list[Claim], proof: ProofRecord | None, checked: Verification, warning: str
) -> AuditedRun:
    wrong = [claim for claim in claims if claim.holds is False]
    lines = []
    if not checked.passed:
        lines.append(f"Drop and speed-up were not measured, because the folder is not as its {MANIFEST} states.")
    elif proof is None:
        lines.append("The run kept its baseline: it claims no drop and no speed-up.")
    lines.append(f"{len(wrong)} of {len(claims)} claims differ." if wrong else "No claim differs.")
    if warning:
        lines.append(warning)
    columns = (Column("claim"), Column("recorded"), Column("here"), Column("result"))
    rows = tuple((claim.name, claim.recorded, claim.found, _WORDS[claim.holds]) for claim in claims)
    data = {
        "folder": str(folder),
        "passed": not wrong,
        "claims": [asdict(claim) for claim in claims],
        "warning": warning,
    }
    document = Document((Table(columns, rows), Text(tuple(lines))), data)
    return AuditedRun(folder, tuple(claims), not wrong, document)
