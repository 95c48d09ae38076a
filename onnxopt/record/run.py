"""The record of a run: the versioned contents of run.json. A new field needs a new schema version."""

from typing import Any, Literal

from pydantic import Field, field_validator

from onnxopt.record.analysis import AnalysisRecord
from onnxopt.record.options import KeptOptions
from onnxopt.record.part import Number, RecordPart, SizeBytes
from onnxopt.record.trial import LatencyRecord, ProofRecord, RecoveredRecord, TrialRecord


class DeviceModelRecord(RecordPart):
    """A model on another device; `difference` is that of float outputs to the machine that made the kit."""

    name: str
    sha256: str
    size_bytes: SizeBytes
    difference: Number
    same_class: int
    classified: int
    latency: LatencyRecord | None


class DeviceRecord(RecordPart):
    """Result of a benchmark kit on another device; `refused` is the reason against a latency measurement."""

    facts: dict[str, str]
    models: tuple[DeviceModelRecord, ...]
    refused: str | None


class TensorRecord(RecordPart):
    """One input or output; a dynamic size is its name or null."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class ModelRecord(RecordPart):
    """The input model, which is the baseline."""

    path: str
    sha256: str | None
    size_bytes: SizeBytes
    opset: int
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]


class SamplesRecord(RecordPart):
    """One part of the data; the fingerprint is over every input and label."""

    source: str
    samples: int
    labels: bool
    fingerprint: str


class DataRecord(RecordPart):
    """The three disjoint parts."""

    calibration: SamplesRecord
    search: SamplesRecord
    holdout: SamplesRecord


class SettingsRecord(RecordPart):
    """The settings of the run."""

    # Declared here, not by SearchOptions: a default is the value of an older record, whatever the option's is today.
    max_drop: str
    goal: Literal["latency", "size"]
    confidence: float
    require: Literal["proven", "likely"] | None = None
    target: str
    provider: str
    threads: int
    optimization: str
    session_options: dict[str, str]
    batch_size: int
    latency_s: float
    hot: bool = False
    prune: bool = False
    train: bool = False
    protect: tuple[str, ...] = ()
    time_limit_s: float | None = None
    aim: str | None = None
    trial_timeout_s: float | None = None
    memory_limit_bytes: int | None = None
    cluster: str | None = None
    tasks: dict[str, Any] = Field(default={}, description="task options that are not at their default")
    seed: int


class EnvironmentRecord(RecordPart):
    """The machine and software of the measurements."""

    cpu: str
    architecture: str
    cores: int | None
    usable_cores: int | None
    isa: tuple[str, ...]
    detected_target: str
    emulated: bool
    os: str
    python: str
    versions: dict[str, str | None]
    telemetry: str | None = None
    """State of the runtime's telemetry."""


class FileRecord(RecordPart):
    """A file of the run folder."""

    name: str
    sha256: str
    size_bytes: int


class RunRecord(RecordPart):
    """One run of `optimize`.

    Attributes:
        status: `won`: best.onnx is the winner; `kept-original`: without a winner, best.onnx is the baseline;
            `running`, `interrupted` or `failed`: best.onnx is the best candidate so far, not proven.
        reason: of the status, in one sentence.
        command: the command line; null for a run from Python.
        repro: command that reproduces best.onnx; null for the baseline.
        kind: reference of the score: labels (accuracy) or the baseline's outputs (fidelity).
        unit: `share` for scores shown as percent, else empty or the unit of the labels.
        allowed_drop: the budget in the metric's unit; null before the baseline was measured.
        winner: name of the trial in best.onnx; null for the baseline.
        confidence: probability that the winner's true drop is within budget; null without a proof.
    """

    schema_version: Literal[3] = 3
    status: Literal["running", "won", "kept-original", "interrupted", "failed"]
    reason: str
    started: str
    duration_s: float
    command: str | None
    repro: str | None
    model: ModelRecord
    data: DataRecord
    settings: SettingsRecord
    environment: EnvironmentRecord
    kind: Literal["accuracy", "fidelity"]
    metric: str
    unit: str
    allowed_drop: float | None
    baseline: TrialRecord | None
    trials: tuple[TrialRecord, ...]
    proofs: tuple[ProofRecord, ...]
    winner: str | None
    confidence: float | None
    best: tuple[FileRecord, ...] = Field(description="best.onnx, and its external data if there is any")
    standing: Literal["proven", "likely"] | None = Field(
        default=None, description="certainty that the winner is within budget; null for the baseline"
    )
    prospect: str = Field(
        default="", description="smallest drop that the hold-out samples can prove, computed before the search"
    )
    time_needed: str = Field(default="", description="time for proof and report, predicted before the search")
    stopped: str = Field(default="", description="reason for an early end of the search; empty for none")
    aim_reached: bool | None = Field(default=None, description="whether best.onnx reaches the target; null without one")
    recovered: tuple[RecoveredRecord, ...] = Field(
        default=(), description="the winner's drop by recovery stage; empty without recovery"
    )
    devices: tuple[DeviceRecord, ...] = Field(
        default=(), description="results of benchmark kits on other devices, added later"
    )
    judged: str = Field(default="", description="rule for judging results, with its reason; empty in older records")
    left_out: tuple[int, ...] = Field(default=(), description="samples for which the baseline gives NaN")
    smallest: str | None = Field(default=None, description="trial in smallest.onnx, within budget but not proven")
    fastest: str | None = Field(default=None, description="trial in fastest.onnx, within budget but not proven")
    pareto: tuple[str, ...] = Field(default=(), description="Pareto-optimal trials in speed, size and score")
    analysis: AnalysisRecord | None = Field(default=None, description="analysis of the run; null when not measured")
    options: KeptOptions | None = Field(default=None, description="the arguments, for resuming; null in older runs")

    @field_validator("confidence")
    @classmethod
    def _is_a_probability(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value <= 1:
            raise ValueError("a confidence lies in 0..1")
        return value

    def to_json(self) -> str:
        """Return the text of run.json."""
        return self.model_dump_json(indent=2) + "\n"

    def trial(self, name: str | None) -> TrialRecord | None:
        """Return the trial called `name`."""
        return next((t for t in self.trials if t.name == name), None)
