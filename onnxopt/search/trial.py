"""Candidates, trials, proofs and the result of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import onnx_ir as ir

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.device.result import DeviceResult
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Pass, Step


@dataclass(frozen=True)
class Candidate:
    """A pipeline before its measurement; `name` is unique in one search (`onnxopt.search.candidate_names`).

    Attributes:
        predicted: latency (or size, if that is the goal) relative to the baseline; None without a prediction.
    """

    name: str
    passes: tuple[Pass, ...]
    predicted: float | None = None


class Verdict(Enum):
    """Verdict on a trial."""

    BASELINE = "baseline"
    WINNER = "winner"
    WITHIN = "within budget"
    OVER_BUDGET = "over budget"
    SLOWER = "not faster"
    UNSURE = "unsure"
    LARGER = "larger"
    UNPROVEN = "not proven on the hold-out part"
    UNCHANGED = "nothing to do"
    SAME = "same as another"
    FURTHER = "further off than another"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One measured candidate.

    Attributes:
        score: score on the search samples; None if it was never run.
        drop: drop against the baseline on the search samples.
        latency: latency at the batch size of the run, with the speed-up over the baseline measured beside it.
        baseline_latency: latency of the baseline measured beside it; None for the baseline itself.
        reason: reason of the verdict, in one sentence.
    """

    candidate: Candidate
    verdict: Verdict
    reason: str
    steps: tuple[Step, ...] = ()
    size_bytes: int | None = None
    score: Evaluation | None = None
    drop: Drop | None = None
    latency: Latency | None = None
    baseline_latency: Latency | None = None


Standing = Literal["proven", "likely", ""]
"""Certainty that a finalist is within budget: proven, likely, or neither."""


@dataclass(frozen=True)
class Proof:
    """Measurements of a finalist on the hold-out samples.

    Attributes:
        confidence: probability that the true drop is within budget, given the hold-out samples.
        asked: required confidence for a proof; 1 where the finalist can only be likely.
        standing: proven, likely or neither, by the confidence.
        hot_speedup: speed-up with one repeated input, of the accepted finalist; None if it was not measured.
    """

    candidate: str
    baseline: Evaluation
    score: Evaluation
    drop: Drop
    confidence: float
    asked: float
    baseline_latency: Latency
    latency: Latency
    accepted: bool
    hot_speedup: Interval | None = None
    standing: Standing = ""


@dataclass(frozen=True)
class SearchResult:
    """The outcome: every trial, the proofs, and the model to ship (the baseline without a winner).

    Attributes:
        recovered: drop of the winner on the search samples after each recovery stage (`onnxopt.search.recovery`); the
            last is the winner's own; () without recovery.
        stopped: reason for an early end of the search; empty for none.
        unproved: finalists that were not tried on the hold-out samples.
        aim_reached: whether `model` reaches the target, as measured in the proof; None without a target.
        device: newest measurement of the winner on the device; None without a winner or a device.
    """

    kind: str
    metric: str
    allowed_drop: float
    baseline: Trial
    trials: tuple[Trial, ...]
    proofs: tuple[Proof, ...]
    winner: Trial | None
    model: ir.Model
    reason: str
    recovered: tuple[tuple[str, float], ...] = ()
    stopped: str = ""
    aim_reached: bool | None = None
    unproved: tuple[str, ...] = ()
    device: DeviceResult | None = None


def why_unchanged(steps: Sequence[Step]) -> str | None:
    """Return the reason why no pass except simplification changed the model; None if one did."""
    working = [step for step in steps if not isinstance(step.spec, Simplify)] or list(steps)
    if any(step.edits for step in working):
        return None
    last = working[-1]
    return last.skipped[0].reason if last.skipped else f"{last.spec.name} has nothing to change"
