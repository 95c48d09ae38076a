"""What a candidate must reach, and which of those that do is the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxopt.measure.metrics.score import difference, percent
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.search.budget import Goal
from onnxopt.search.trial import Proof, Standing, Trial, Verdict

LIKELY = 0.7
"""Probability of being inside the budget from which a winner may ship though it is not proven."""

RISKS = (0.5, 0.25, 0.25)
"""Shares of the accepted risk that each attempt on the hold-out part may take: all together never take more than all of
it (bench/proof.py)."""

LEAST_GAIN = 1.01
"""A file must get this much smaller to be worth shipping, when size is the goal."""

MOST_PROOFS = 3
"""Finalists that may be tried on the hold-out part: each further one is another chance to be lucky there."""

EARLY = MOST_PROOFS - 1
"""The attempt that the early proof of a first candidate counts as: the last, whose share of the risk is then taken."""

UNDECIDED = 1.1
"""A candidate that may be so much faster, and may be slower, is measured again when the host is quieter."""

_MOST_SAMPLES = 1_000_000
"""More samples than anybody is advised to find."""

SAME = 1.03
"""A ratio below this is noise: calibration methods, for one, lead to the same kernels."""


@dataclass(frozen=True)
class Acceptance:
    """The limits of one search.

    Attributes:
        goal: what the best model is best at.
        allowed_drop: in the metric's unit.
        confidence: probability that the true drop is inside from which a winner is proven.
        baseline_bytes: size of the original.
        unit: of the metric, for the reasons.
        require: `proven`, or `likely` for either.
    """

    goal: Goal
    allowed_drop: float
    confidence: float
    baseline_bytes: int
    unit: str = ""
    require: str = "likely"

    def verdict(self, drop: Drop, speedup: Interval | None, size_bytes: int, unsure: str = "") -> tuple[Verdict, str]:
        """Return what becomes of a measured candidate, and why.

        For latency as the goal, it must be faster beyond doubt and not larger; for size, smaller and not slower
        beyond doubt. Accuracy comes last: a candidate over the budget would have won with a larger one.

        Args:
            drop: of accuracy.
            speedup: over the baseline; None where the clock is unsure.
            size_bytes: of its file.
            unsure: the clock's reason.
        """
        lost = f"{self.changed(drop)}, {self.said(self.allowed_drop)} allowed"
        doubt = unsure if speedup is None else self._doubt(speedup)
        if speedup is not None and not doubt and self.goal is Goal.LATENCY and speedup.low <= 1:
            return Verdict.SLOWER, f"speed {speedup.value:.2f}x of the original's, {speedup.low:.2f}x at worst"
        if speedup is not None and self.goal is Goal.SIZE and speedup.high < 1:
            return Verdict.SLOWER, f"speed {speedup.value:.2f}x of the original's, {speedup.high:.2f}x at best"
        largest = self.baseline_bytes if self.goal is Goal.LATENCY else self.baseline_bytes / LEAST_GAIN
        if size_bytes > largest:
            return Verdict.LARGER, f"{size_bytes} bytes, the original has {self.baseline_bytes}"
        if drop.broken:
            return Verdict.OVER_BUDGET, "gives NaN or infinite outputs where the original does not"
        if not drop.within(self.allowed_drop):
            return Verdict.OVER_BUDGET, lost
        return (Verdict.UNSURE, doubt) if doubt else (Verdict.WITHIN, lost)

    def _doubt(self, speedup: Interval) -> str:
        """Return why an interval decides nothing: it holds 1, and much more; "" where it decides."""
        if self.goal is Goal.SIZE or not speedup.low <= 1 < UNDECIDED <= speedup.high:
            return ""
        return f"its speed is between {speedup.low:.2f}x and {speedup.high:.2f}x of the original's"

    def rank(self, trial: Trial) -> float:
        """Return the time or the size of a measured trial relative to the original; smaller is better."""
        if self.goal is Goal.SIZE:
            return (trial.size_bytes or 0) / self.baseline_bytes
        return 1 / _speedup(trial).value

    def accurate(self, trial: Trial) -> bool:
        """Return whether a trial's drop is inside the budget with the confidence that the proof will ask for."""
        return trial.drop is not None and trial.drop.probability_within(self.allowed_drop) >= self.asked(0)

    def finalists(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials inside the budget, the best first; among those equally good at the goal, by drop."""
        within = [t for t in trials if t.verdict is Verdict.WITHIN]
        best = min(map(self.rank, within), default=1.0)

        def order(trial: Trial) -> tuple[int, float, int]:
            steps_behind = int(math.log(self.rank(trial) / best) / math.log(SAME))
            drop = trial.drop.value if trial.drop is not None else 0.0
            return steps_behind, drop, trial.size_bytes or 0

        return sorted(within, key=order)

    def asked(self, attempt: int) -> float:
        """Return the confidence with which attempt 0, 1, ... on the same hold-out part is a proof.

        All attempts together take no more than the accepted risk, see `RISKS`.
        """
        return float(1 - (1 - self.confidence) * RISKS[attempt])

    def attempts(self, finalists: Sequence[Trial]) -> list[Trial]:
        """Return the finalists to try on the hold-out part, in this order.

        The last try is kept for the finalist with the smallest drop: the fastest are the boldest, and would use up all.
        """
        if len(finalists) <= MOST_PROOFS:
            return list(finalists)
        first, rest = list(finalists[: MOST_PROOFS - 1]), finalists[MOST_PROOFS - 1 :]
        return [*first, min(rest, key=lambda t: float("inf") if t.drop is None else t.drop.value)]

    def standing(self, confidence: float, attempt: int, drop: Drop | None) -> Standing:
        """Return how sure it is that a finalist of attempt 0, 1, ... is inside the budget; empty for not enough.

        Where losses alone are beyond the budget, and gains make up for them, nothing is proven.
        """
        evened_out = drop is not None and drop.evened_out(self.allowed_drop)
        if confidence >= self.asked(attempt) and not evened_out:
            return "proven"
        return "likely" if confidence >= LIKELY and self.require != "proven" else ""

    def inside(self, proof_drop: Drop, speedup: Interval | None, size_bytes: int) -> bool:
        """Return whether a finalist, measured again on the hold-out part, is inside every limit as measured."""
        return self.verdict(proof_drop, speedup, size_bytes)[0] is Verdict.WITHIN

    def why_unproven(self, proof: Proof) -> str:
        """Return in words what a finalist failed on."""
        speedup = proof.latency.speedup
        if speedup is None:
            return f"measured again, its speed is not sure: {proof.latency.unsure}"
        unsteady = speedup is not None and (speedup.low <= 1 if self.goal is Goal.LATENCY else speedup.high < 1)
        if speedup is not None and unsteady:
            return f"measured again, its speed of {speedup.value:.2f}x the original's did not hold"
        if proof.drop.broken:
            return "on the hold-out part it gives NaN or infinite outputs where the original does not"
        if proof.drop.evened_out(self.allowed_drop) and proof.confidence >= proof.asked:
            return (
                f"on {proof.drop.n} hold-out samples only gains make up for its losses: {proof.drop.better} got "
                f"better, {proof.drop.worse} got worse and lost {self.said(proof.drop.gross or 0)}, "
                f"{self.said(self.allowed_drop)} allowed"
            )
        found = (
            f"on {proof.drop.n} hold-out samples it {self.changed(proof.drop)}; inside "
            f"{self.said(self.allowed_drop)} with a probability of {percent(proof.confidence)}, "
            f"{percent(proof.asked, limit=True)} is asked for"
        )
        needed = proof.drop.samples_needed(self.allowed_drop, proof.asked)
        if needed is None or not proof.drop.n < needed <= _MOST_SAMPLES:
            return found
        return f"{found}; about {needed} such samples would show it, were the drop the same on them"

    def changed(self, drop: Drop) -> str:
        """Return how the score changed, in words."""
        return f"gains {self.said(-drop.value)}" if drop.value < 0 else f"drops {self.said(drop.value)}"

    def said(self, drop: float) -> str:
        """Return a drop in words."""
        return difference(drop, self.unit)


def _speedup(trial: Trial) -> Interval:
    if trial.latency is None or trial.latency.speedup is None:
        raise ValueError(f"{trial.candidate.name} was not timed beside the original")
    return trial.latency.speedup
