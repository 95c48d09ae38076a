"""The part of run.json about one candidate: its passes, its measurements and its proof."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from onnxopt.record.part import Number, RecordPart, SizeBytes

Nanoseconds = Annotated[tuple[float, ...], AfterValidator(lambda times: tuple(round(time, 6) for time in times))]
"""Milliseconds to the nanosecond."""


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
    """The work of one pass; `spec` is the text for `onnxopt apply --passes`, `options` those not at their default.

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
    quantiles_ms: Nanoseconds = ()
    epochs_ms: Nanoseconds = ()
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
    size_bytes: SizeBytes | None
    score: ScoreRecord | None
    drop: DropRecord | None
    latency: LatencyRecord | None
    baseline_latency: LatencyRecord | None


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
