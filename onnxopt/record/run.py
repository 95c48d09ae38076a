"""The record of a run: everything in run.json, versioned. Adding a field is a change of the schema's version."""

from typing import Any, Literal

from pydantic import Field, field_validator

from onnxopt.record.analysis import AnalysisRecord
from onnxopt.record.options import KeptOptions
from onnxopt.record.part import Number, RecordPart


class IntervalRecord(RecordPart):
    """A value and the interval that holds the true one with probability `level`."""

    low: Number
    value: Number
    high: Number
    level: float


class EditRecord(RecordPart):
    """One edit of a node or weight."""

    target: str
    action: str


class SkipRecord(RecordPart):
    """One node or weight that a pass skipped, with the reason."""

    target: str
    reason: str


class StepRecord(RecordPart):
    """What one pass did; `spec` is the text that `onnxopt apply --passes` reads, `options` those not at their default.

    `proved_difference` is the largest difference of the outputs in the pass's own proof, relative to each output's
    largest magnitude. `curve` is the training curve: step, loss, and score on held-out samples (lower is better).
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
    """Drop against the baseline in the metric's unit; `better` and `worse` count samples that changed.

    `gross` is the loss of the samples that got worse, without the gains of others; None where only the net drop counts.
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
    """Latency of one run at `batch_size`; the speed-up is over the baseline in the same runs.

    The speed-up is the ratio of the two `p50_ms`, or None for the reason in `unsure`. The other quantiles are in
    wall-clock time; `p99_ms` needs enough runs. `waited` is the share of the time that threads waited for a processor,
    `inputs` the number of alternating inputs; the bounds have 99 % confidence. `quantiles_ms` are equally spaced from
    the fastest to the slowest run; `epochs_ms` are typical latencies after each load, in order of time.
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
    """One trial on the search samples; the speed-up is over `baseline_latency`."""

    name: str
    passes: str
    predicted: float | None = Field(default=None, description="predicted latency (or size) relative to the baseline")
    verdict: str
    reason: str
    steps: tuple[StepRecord, ...]
    size_bytes: int | None
    score: ScoreRecord | None
    drop: DropRecord | None
    latency: LatencyRecord | None
    baseline_latency: LatencyRecord | None


class DeviceModelRecord(RecordPart):
    """A model on another device; `difference` is that of float outputs to the machine that made the kit."""

    name: str
    sha256: str
    size_bytes: int
    difference: Number
    same_class: int
    classified: int
    latency: LatencyRecord | None


class DeviceRecord(RecordPart):
    """Result of a benchmark kit on another device; `refused` is the reason against a latency measurement."""

    facts: dict[str, str]
    models: tuple[DeviceModelRecord, ...]
    refused: str | None


class RecoveredRecord(RecordPart):
    """The winner's drop on the search samples after this and all earlier recovery stages."""

    by: str
    drop: Number


class ProofRecord(RecordPart):
    """A finalist on the hold-out samples; `confidence` is the probability that its true drop is within budget."""

    candidate: str
    baseline: ScoreRecord
    score: ScoreRecord
    drop: DropRecord
    confidence: float
    asked: float
    baseline_latency: LatencyRecord
    latency: LatencyRecord
    accepted: bool
    hot_speedup: IntervalRecord | None = Field(default=None, description="speed-up with one repeated input")
    standing: Literal["proven", "likely", ""] = Field(
        default="", description="standing by the confidence; empty for neither"
    )


class TensorRecord(RecordPart):
    """One input or output; a dynamic size is its name or null."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class ModelRecord(RecordPart):
    """The input model, which is the baseline."""

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
    """The settings of the run."""

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
