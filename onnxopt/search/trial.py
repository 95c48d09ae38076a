"""What was tried, what came out, and what was decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import onnx_ir as ir

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Pass, Step


@dataclass(frozen=True)
class Candidate:
    """A pipeline that nobody has measured yet; `name` is short and unique in one search.

    Attributes:
        predicted: share of the original's time, or of its bytes where size is the goal; None where nothing predicts it.
    """

    name: str
    passes: tuple[Pass, ...]
    predicted: float | None = None


class Verdict(Enum):
    """What became of a trial."""

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
        score: on the search part; None when it was never run.
        drop: against the baseline on the search part.
        latency: at the batch size of the run, with the speed-up over the baseline measured beside it.
        baseline_latency: of the baseline measured beside it; None for the baseline itself.
        reason: in one sentence, why this verdict.
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
"""How sure it is that a finalist is inside the budget: proven, only likely, or not enough."""


@dataclass(frozen=True)
class Proof:
    """How a finalist did on samples that took no part in choosing it.

    Attributes:
        confidence: probability that the true drop is inside the budget, given the hold-out part.
        asked: the confidence it had to reach to be proven; later attempts on the same part have to reach more.
        standing: what the confidence is enough for.
        hot_speedup: with one input again and again, of what was accepted; None where it was not measured.
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
    """The outcome: every trial, the proofs, and the model to ship (the original when nothing won).

    Attributes:
        recovered: drop of the winner on the search part by what made up for its losses until then, see
            `onnxopt.search.recovery`; the last is the winner's own; () where it recovers nothing.
        stopped: why not everything that was planned was tried; empty when it was.
        unproved: finalists that were not tried on the hold-out part.
        aim_reached: whether `model` reaches the aim, as measured for the proof; None without one.
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


def why_unchanged(steps: Sequence[Step]) -> str | None:
    """Return why passes made nothing of their own of the model, simplification aside; None where they did."""
    working = [step for step in steps if not isinstance(step.spec, Simplify)] or list(steps)
    if any(step.edits for step in working):
        return None
    last = working[-1]
    return last.skipped[0].reason if last.skipped else f"{last.spec.name} finds nothing to do"
