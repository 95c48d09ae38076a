"""The record of a run: everything in run.json, versioned. Adding a field is a change of the schema's version."""

from typing import Any, Literal

from pydantic import Field, field_validator

from onnxopt.record.analysis import AnalysisRecord
from onnxopt.record.options import SearchOptions
from onnxopt.record.part import Number, RecordPart


class IntervalRecord(RecordPart):
    """A value and the interval that holds the true one with probability `level`."""

    low: Number
    value: Number
    high: Number
    level: float


class EditRecord(RecordPart):
    """One thing that was done to a node or weight."""

    target: str
    action: str


class SkipRecord(RecordPart):
    """One thing that was left alone."""

    target: str
    reason: str


class StepRecord(RecordPart):
    """What one pass did; `spec` is the text that `onnxopt apply --passes` reads, `options` those not at their default.

    `proved_difference` is the largest difference of the outputs from what the pass proved them equal to, relative to
    each output's largest magnitude. `curve` is that of a training: step, loss, and score on held-out samples, lower is
    better.
    """

    pass_name: str
    spec: str
    options: dict[str, Any]
    duration_s: float
    edits: tuple[EditRecord, ...]
    skipped: tuple[SkipRecord, ...]
    proved_difference: Number | None = None
    curve: tuple[tuple[int, Number, Number], ...] = ()


class ScoreRecord(RecordPart):
    """A metric on `n` samples; `details` are further figures of the same samples, by name and unit."""

    value: Number
    interval: IntervalRecord
    n: int
    non_finite: int
    details: dict[str, Number] = Field(default_factory=dict)


class DropRecord(RecordPart):
    """How much worse than the baseline, in the metric's unit; `better` and `worse` count samples that flipped.

    `gross` is what the samples that got worse lost, with no gain set against it; None where only the net counts.
    """

    value: Number
    interval: IntervalRecord
    n: int
    better: int | None
    worse: int | None
    p_value: float | None
    broken: bool
    gross: Number = None


class LatencyRecord(RecordPart):
    """Time of one run at `batch_size`; the speed-up is over the baseline measured beside it.

    The speed-up is the ratio of the two `p50_ms`; it is None where `unsure` says why. The others are by the time of
    day, `p99_ms` where enough runs were timed to know. `waited` is the share of the time that threads waited for a
    processor, `inputs` how many inputs were run by turns; the bounds hold with 99 % confidence. `quantiles_ms` are
    equally spaced from the fastest run to the slowest; `epochs_ms` the typical time after each loading, in the order
    of time.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    n: int
    first_run_ms: float
    load_ms: float
    batch_size: int
    p50_interval_ms: IntervalRecord
    speedup: IntervalRecord | None
    peak_memory_bytes: int | None
    quantiles_ms: tuple[float, ...] = ()
    epochs_ms: tuple[float, ...] = ()
    unsure: str = ""
    waited: float | None = None
    inputs: int = 1
    p90_bound_ms: float | None = None
    p99_bound_ms: float | None = None
    private_bytes: int | None = None
    mapped_bytes: int | None = None
    cold_start_ms: float | None = None


class TrialRecord(RecordPart):
    """One candidate and what became of it, on the search part; the speed-up is over `baseline_latency`."""

    name: str
    passes: str
    predicted: float | None = Field(
        default=None, description="share of the original's time (or bytes) it was chosen for"
    )
    verdict: str
    reason: str
    steps: tuple[StepRecord, ...]
    size_bytes: int | None
    score: ScoreRecord | None
    drop: DropRecord | None
    latency: LatencyRecord | None
    baseline_latency: LatencyRecord | None


class DeviceModelRecord(RecordPart):
    """A model on another device; `difference` of float outputs from those of the machine that made the kit."""

    name: str
    sha256: str
    size_bytes: int
    difference: Number
    same_class: int
    classified: int
    latency: LatencyRecord | None


class DeviceRecord(RecordPart):
    """What a benchmark kit found on another device; `refused` is why latency was not measured there."""

    facts: dict[str, str]
    models: tuple[DeviceModelRecord, ...]
    refused: str | None


class RecoveredRecord(RecordPart):
    """What the winner drops on the search part with this alone, and what is above it, making up for its losses."""

    by: str
    drop: Number


class ProofRecord(RecordPart):
    """How a finalist did on the hold-out part; `confidence` that its true drop is inside the budget."""

    candidate: str
    baseline: ScoreRecord
    score: ScoreRecord
    drop: DropRecord
    confidence: float
    asked: float
    baseline_latency: LatencyRecord
    latency: LatencyRecord
    accepted: bool
    hot_speedup: IntervalRecord | None = Field(default=None, description="with one input again and again")
    standing: Literal["proven", "likely", ""] = Field(default="", description="by its confidence; empty for neither")


class TensorRecord(RecordPart):
    """One input or output; a dynamic size is its name or null."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class ModelRecord(RecordPart):
    """The model that was given."""

    path: str
    sha256: str | None
    size_bytes: int
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
    """What was asked for."""

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
    tasks: dict[str, Any] = Field(default={}, description="options of reading outputs that are not at their default")
    seed: int


class EnvironmentRecord(RecordPart):
    """Where it was measured."""

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
    """Whether the runtime's own telemetry was off."""


class FileRecord(RecordPart):
    """A file of the run folder."""

    name: str
    sha256: str
    size_bytes: int


class RunRecord(RecordPart):
    """One run of `optimize`.

    Attributes:
        status: `won`: best.onnx is the winner; `kept-original`: nothing won and best.onnx is the original;
            `running`, `interrupted` or `failed`: best.onnx is the best until then, which is not proved.
        reason: why, in one sentence.
        command: the command line, when there was one.
        repro: command that makes the model in best.onnx again; null for the original.
        kind: whether candidates were held against labels or against the original's outputs.
        unit: `share` when scores are shares (shown as percent), else empty or the unit of the labels.
        allowed_drop: in the metric's unit; null before the baseline was measured.
        winner: name of the trial in best.onnx; null for the original.
        confidence: that the winner's true drop is inside the budget; null unless proved.
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
        default=None, description="how sure it is that the winner is inside the budget; null for the original"
    )
    prospect: str = Field(default="", description="what the hold-out part can prove, said before the search")
    time_needed: str = Field(
        default="", description="what proof and report need of a time limit, said before the search"
    )
    stopped: str = Field(default="", description="why not everything planned was tried; empty when it was")
    aim_reached: bool | None = Field(default=None, description="whether best.onnx reaches the aim; null without one")
    recovered: tuple[RecoveredRecord, ...] = Field(
        default=(), description="what recovery gave the winner, stage by stage; empty where it has none"
    )
    devices: tuple[DeviceRecord, ...] = Field(default=(), description="what kits found on other devices, added later")
    judged: str = Field(default="", description="how results are judged, and why; empty in older records")
    left_out: tuple[int, ...] = Field(default=(), description="samples for which the baseline gives NaN")
    smallest: str | None = Field(default=None, description="trial in smallest.onnx, inside the budget but not proved")
    fastest: str | None = Field(default=None, description="trial in fastest.onnx, inside the budget but not proved")
    pareto: tuple[str, ...] = Field(default=(), description="trials that none beats at speed, size and score at once")
    analysis: AnalysisRecord | None = Field(default=None, description="what explains the run; null when not measured")
    options: SearchOptions | None = Field(default=None, description="the arguments, for going on; null in older runs")

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
