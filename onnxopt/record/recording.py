"""Conversion of measurements to the run record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes
from onnxopt.document import units
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.latency import Latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.measure.tasks.task import changed_options
from onnxopt.model_file import TensorSpec, opset_of, signature_of
from onnxopt.record import run as record
from onnxopt.record.steps import step_data
from onnxopt.samples import Samples
from onnxopt.search.parts import Parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Proof, Trial
from onnxopt.target import detect


def interval_record(interval: Interval) -> record.IntervalRecord:
    """Record an interval."""
    return record.IntervalRecord(low=interval.low, value=interval.value, high=interval.high, level=interval.level)


def score_record(score: Evaluation) -> record.ScoreRecord:
    """Record a metric; its rows are left out."""
    return record.ScoreRecord(
        value=score.value,
        interval=interval_record(score.interval),
        n=score.n,
        non_finite=score.non_finite,
        details=score.details,
    )


_NAMED = 10


def left_out_sentence(samples: Sequence[int]) -> str:
    """Return which samples were left out because the baseline gives NaN for them; "" for none."""
    if not samples:
        return ""
    named = ", ".join(map(str, samples[:_NAMED])) + (", ..." if len(samples) > _NAMED else "")
    return f"Left out, because the baseline gives NaN for them: {units.many(len(samples), 'sample')} ({named})."


def drop_record(drop: Drop) -> record.DropRecord:
    """Record a drop; its draws are left out."""
    return record.DropRecord(
        value=drop.value,
        interval=interval_record(drop.interval),
        n=drop.n,
        better=drop.better,
        worse=drop.worse,
        p_value=drop.p_value,
        broken=drop.broken,
        gross=drop.gross,
    )


def latency_record(latency: Latency) -> record.LatencyRecord:
    """Record a latency."""
    return record.LatencyRecord(
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        n=latency.n,
        first_run_ms=latency.first_run_ms,
        load_ms=latency.load_ms,
        batch_size=latency.batch_size,
        p50_interval_ms=interval_record(latency.p50_interval_ms),
        speedup=None if latency.speedup is None else interval_record(latency.speedup),
        peak_memory_bytes=latency.peak_memory_bytes,
        quantiles_ms=tuple(round(value, 6) for value in latency.quantiles_ms),
        epochs_ms=tuple(round(value, 6) for value in latency.epochs_ms),
        unsure=latency.unsure,
        waited=latency.waited,
        inputs=latency.inputs,
        p90_bound_ms=latency.p90_bound_ms,
        p99_bound_ms=latency.p99_bound_ms,
        private_bytes=latency.private_bytes,
        mapped_bytes=latency.mapped_bytes,
        cold_start_ms=latency.cold_start_ms,
    )


def trial_record(trial: Trial) -> record.TrialRecord:
    """Record a trial with everything its passes did."""
    return record.TrialRecord(
        name=trial.candidate.name,
        passes=format_passes(trial.candidate.passes),
        predicted=trial.candidate.predicted,
        verdict=trial.verdict.value,
        reason=trial.reason,
        steps=tuple(record.StepRecord.model_validate(step_data(step)) for step in trial.steps),
        size_bytes=trial.size_bytes,
        score=None if trial.score is None else score_record(trial.score),
        drop=None if trial.drop is None else drop_record(trial.drop),
        latency=None if trial.latency is None else latency_record(trial.latency),
        baseline_latency=None if trial.baseline_latency is None else latency_record(trial.baseline_latency),
    )


def proof_record(proof: Proof) -> record.ProofRecord:
    """Record a proof."""
    return record.ProofRecord(
        candidate=proof.candidate,
        baseline=score_record(proof.baseline),
        score=score_record(proof.score),
        drop=drop_record(proof.drop),
        confidence=proof.confidence,
        asked=proof.asked,
        baseline_latency=latency_record(proof.baseline_latency),
        latency=latency_record(proof.latency),
        accepted=proof.accepted,
        hot_speedup=None if proof.hot_speedup is None else interval_record(proof.hot_speedup),
        standing=proof.standing,
    )


def model_record(model: ir.Model, path: Path | None) -> record.ModelRecord:
    """Record the model that was given."""
    signature = signature_of(model)
    return record.ModelRecord(
        path="" if path is None else str(path),
        sha256=None if path is None else model_file.sha256_of(path),
        size_bytes=model_file.size_of(model if path is None else path),
        opset=opset_of(model),
        inputs=tuple(map(_tensor, signature.inputs)),
        outputs=tuple(map(_tensor, signature.outputs)),
    )


def _tensor(spec: TensorSpec) -> record.TensorRecord:
    return record.TensorRecord(name=spec.name, dtype=spec.dtype, shape=spec.shape)


def data_record(parts: Parts) -> record.DataRecord:
    """Record the parts; reads every sample once for the fingerprints."""
    return record.DataRecord(
        calibration=_samples(parts.calibration), search=_samples(parts.search), holdout=_samples(parts.holdout)
    )


def _samples(samples: Samples) -> record.SamplesRecord:
    return record.SamplesRecord(
        source=samples.name,
        samples=len(samples),
        labels=samples.labels is not None,
        fingerprint=samples.fingerprint,
    )


def settings_record(settings: Settings) -> record.SettingsRecord:
    """Record the settings: those of the same name, and those with another form in JSON."""
    runtime, aim = settings.runtime, settings.aim
    same = {name: getattr(settings, name) for name in record.SettingsRecord.model_fields if hasattr(settings, name)}
    other: dict[str, Any] = {
        "max_drop": str(settings.budget),
        "goal": settings.goal.value,
        "provider": runtime.provider,
        "threads": runtime.threads,
        "optimization": runtime.optimization,
        "session_options": dict(runtime.options),
        "aim": None if aim is None else f"{aim.kind} {aim}",
        "tasks": changed_options(settings.tasks),
    }
    return record.SettingsRecord(**{**same, **other})


def environment_record() -> record.EnvironmentRecord:
    """Record the machine and the libraries."""
    return record.EnvironmentRecord(**environment(), detected_target=detect().name)
