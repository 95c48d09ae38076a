"""The record of a run: the versioned contents of run.json.

A field added later has a default, so that records without it are read; any other change needs a new schema version.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, field_validator

from onnxopt.options.declared import declared_options
from onnxopt.options.search import Goal, SearchOptions
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


class _Resolved(RecordPart):
    """The settings of the run."""

    # Declared here: settings whose form differs from that of the options, and those that the reports read.
    max_drop: str
    goal: Goal
    confidence: float
    target: str
    provider: str
    threads: int
    optimization: str
    session_options: dict[str, str]
    batch_size: int
    latency_s: float
    hot: bool = False
    device: str | None = None
    aim: str | None = None
    memory_limit_bytes: int | None = None
    time_limit_s: float | None = None
    tasks: dict[str, Any] = Field(default={}, description="task options that are not at their default")
    seed: int


_NO_SETTING = frozenset(
    {
        "metric",
        "output",
        "threshold",
        "strategy",
        "target_latency",
        "target_size",
        "memory_limit",
        "limit",
        "bench",
        "tls",
    }
)
"""Options that the record has in another form, or that no measurement depends on."""
_OLDER: Mapping[str, Any] = {"require": None}
"""Values of records that are older than an option, where its default is another."""
_DECLARED: dict[str, Any] = {
    o.field: (o.kind | None if o.field in _OLDER else o.kind, _OLDER.get(o.field, o.default))
    for o in declared_options(SearchOptions)
    if o.field not in _NO_SETTING | _Resolved.model_fields.keys()
}

if TYPE_CHECKING:
    SettingsRecord = _Resolved
else:
    SettingsRecord = create_model("SettingsRecord", __base__=_Resolved, __doc__=_Resolved.__doc__, **_DECLARED)


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
        reason: the reason of the status, in one sentence.
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
    warning: str = Field(
        default="", description="warning that the baseline scores hardly better than a guess; empty for none"
    )
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
