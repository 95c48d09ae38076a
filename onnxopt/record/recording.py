"""Conversion of measurements to the run record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import onnx_ir as ir
from pydantic import BaseModel

from onnxopt import model_file
from onnxopt.catalog import format_passes
from onnxopt.document import units
from onnxopt.measure.runtime.environment import environment
from onnxopt.model_file import TensorSpec, opset_of, signature_of
from onnxopt.options.tasks import changed_options
from onnxopt.record import run as record
from onnxopt.record.steps import step_data
from onnxopt.record.trial import TrialRecord
from onnxopt.samples import Samples
from onnxopt.search.parts import Parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Trial
from onnxopt.target import detect

_NAMED = 10
_SAME = ("reason", "size_bytes", "score", "drop", "latency", "baseline_latency")
"""Fields of a trial that are recorded unchanged."""
_HOW = {"time_limit_s", "trial_timeout_s", "memory_limit_bytes", "cluster"}
"""Settings that do not change what is measured."""


def left_out_sentence(samples: Sequence[int]) -> str:
    """Return a sentence on the samples left out because the baseline gives NaN for them; "" for none."""
    if not samples:
        return ""
    named = ", ".join(map(str, samples[:_NAMED])) + (", ..." if len(samples) > _NAMED else "")
    return f"Left out, because the baseline gives NaN for them: {units.many(len(samples), 'sample')} ({named})."


def trial_record(trial: Trial) -> TrialRecord:
    """Record a trial with all edits and skips of its passes."""
    return TrialRecord.model_validate(
        {
            "name": trial.candidate.name,
            "passes": format_passes(trial.candidate.passes),
            "predicted": trial.candidate.predicted,
            "verdict": trial.verdict.value,
            "steps": [step_data(step) for step in trial.steps],
            **{name: getattr(trial, name) for name in _SAME},
        }
    )


def model_record(model: ir.Model, path: Path | None) -> record.ModelRecord:
    """Record the input model."""
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
    """Record the three parts of the data; reads every sample once for the fingerprints."""
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
    """Record the settings, converted to JSON where their form differs."""
    runtime, aim = settings.runtime, settings.aim
    same = {name: getattr(settings, name) for name in record.SettingsRecord.model_fields if hasattr(settings, name)}
    other: dict[str, Any] = {
        "max_drop": str(settings.budget),
        "provider": runtime.provider,
        "threads": runtime.threads,
        "optimization": runtime.optimization,
        "session_options": dict(runtime.options),
        "aim": None if aim is None else f"{aim.kind} {aim}",
        "tasks": changed_options(settings.tasks),
    }
    return record.SettingsRecord(**{**same, **other})


def settings_text(settings: BaseModel) -> dict[str, str]:
    """Return the settings that measurements depend on, by name, for the journal."""
    return {f"setting {key}": str(value) for key, value in settings.model_dump(mode="json", exclude=_HOW).items()}


def default_settings_text() -> dict[str, str]:
    """Return the defaults of the settings, for journals written before an option existed."""
    return settings_text(cast("type[BaseModel]", record.SettingsRecord).model_construct())


def environment_record() -> record.EnvironmentRecord:
    """Record the machine and the libraries."""
    return record.EnvironmentRecord(**environment(), detected_target=detect().name)
