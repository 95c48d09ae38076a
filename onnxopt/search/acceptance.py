"""Acceptance of candidates: limits, ranking, and the required confidence of a proof."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxopt.measure.metrics.score import drop_in_words, percent
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.options.search import Goal
from onnxopt.search.trial import Proof, Standing, Trial, Verdict

LIKELY = 0.7
"""Smallest probability of being within budget of an unproven winner that ships."""

LEAST_GAIN = 1.01
"""Smallest size ratio of a winner, with size as the goal."""

MOST_PROOFS = 4
"""Number of finalists tried on the hold-out samples after the early proof: each takes the time of a proof."""

MOST_UNPROVEN = 3
"""Number of proofs, the early one included, after which a search without a proven one tries no more: each is another
chance to look likely by luck.
"""

EARLY = 0.25
"""Share of the accepted risk that the early proof of a first candidate takes (bench/proof.py)."""

UNDECIDED = 1.1
"""A candidate whose speed-up interval contains both 1 and this value is measured again on a quieter host."""

_MOST_SAMPLES = 1_000_000
"""Largest number of samples that a message recommends."""

SAME = 1.03
"""A ratio below this is noise: calibration methods, for example, lead to the same kernels."""


@dataclass(frozen=True)
class Acceptance:
    """The limits of one search.

    Attributes:
        goal: the figure to improve.
        allowed_drop: the budget in the metric's unit.
        confidence: probability of being within budget from which a winner is proven.
        baseline_bytes: size of the baseline.
        unit: unit of the metric, for the reasons.
        require: `proven`, or `likely` for either.
    """

    goal: Goal
    allowed_drop: float
    confidence: float
    baseline_bytes: int
    unit: str = ""
    require: str = "likely"

    def verdict(self, drop: Drop, speedup: Interval | None, size_bytes: int, unsure: str = "") -> tuple[Verdict, str]:
        """Return the verdict on a measured candidate, with its reason.

        With latency as the goal the whole speed-up interval must exceed 1 and the file must not be larger; with size,
        the file must be smaller and the interval must not be below 1. Accuracy is checked last: a candidate over budget
        would win with a larger budget.

        Args:
            drop: drop of the score.
            speedup: speed-up over the baseline; None if the clock is unsure.
            size_bytes: size of its file.
            unsure: the clock's reason.
        """
        lost = f"{self.changed(drop)} (budget {self.said(self.allowed_drop)})"
        doubt = (unsure or "its speed-up was not measured") if speedup is None else self._doubt(speedup)
        if speedup is not None and not doubt and self.goal is Goal.LATENCY and speedup.low <= 1:
            return Verdict.SLOWER, f"{_interval(speedup)}; the whole interval must exceed 1"
        if speedup is not None and self.goal is Goal.SIZE and speedup.high < 1:
            return Verdict.SLOWER, f"{_interval(speedup)}; the whole interval is below 1"
        largest = self.baseline_bytes if self.goal is Goal.LATENCY else self.baseline_bytes / LEAST_GAIN
        if size_bytes > largest:
            return Verdict.LARGER, f"{size_bytes} bytes, the baseline has {self.baseline_bytes}"
        if drop.broken:
            return Verdict.OVER_BUDGET, "outputs are NaN or infinite where the baseline's are finite"
        if not drop.within(self.allowed_drop):
            return Verdict.OVER_BUDGET, lost
        return (Verdict.UNSURE, doubt) if doubt else (Verdict.WITHIN, lost)

    def _doubt(self, speedup: Interval) -> str:
        """Return the reason why an interval decides nothing: it contains both 1 and `UNDECIDED`; "" if it decides."""
        if self.goal is Goal.SIZE or not speedup.low <= 1 < UNDECIDED <= speedup.high:
            return ""
        return f"{_interval(speedup)} is too wide to decide"

    def rank(self, trial: Trial) -> float:
        """Return the latency or the size of a measured trial relative to the baseline; smaller is better."""
        if self.goal is Goal.SIZE:
            return _size(trial) / self.baseline_bytes
        return 1 / _speedup(trial).value

    def accurate(self, trial: Trial) -> bool:
        """Return whether a trial's drop is within budget with the confidence that the proof requires."""
        return trial.drop is not None and trial.drop.probability_within(self.allowed_drop) >= self.asked()

    def promising(self, trial: Trial) -> bool:
        """Return whether a trial's drop is likely within budget, so that more of the same may be tried."""
        return trial.drop is not None and trial.drop.probability_within(self.allowed_drop) >= LIKELY

    def finalists(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials within budget, the best first; among those equally good at the goal, by drop."""
        within = [t for t in trials if t.verdict is Verdict.WITHIN]
        steps = self.steps_behind(within)

        def order(number: int) -> tuple[int, float, int]:
            drop = within[number].drop
            return steps[number], math.inf if drop is None else drop.value, _size(within[number])

        return [within[number] for number in sorted(range(len(within)), key=order)]

    def steps_behind(self, trials: Sequence[Trial]) -> list[int]:
        """Return by how many steps of `SAME` each trial is behind the best of them; those of one step are equal."""
        ranks = [self.rank(trial) for trial in trials]
        return [int(math.log(rank / min(ranks)) / math.log(SAME)) for rank in ranks]

    def gain(self, trial: Trial) -> float:
        """Return the gain of a measured trial: the share of the time or of the bytes that it saves."""
        return 1 - self.rank(trial)

    def asked(self, share: float = 1.0) -> float:
        """Return the confidence required of a proof that takes a share of the accepted risk; 1 for a share of 0."""
        return 1 - (1 - self.confidence) * share

    def standing(self, confidence: float, share: float, drop: Drop | None) -> Standing:
        """Return the standing of a finalist with a share of the accepted risk; empty for too low a confidence.

        Nothing is proven if the losses alone exceed the budget and only gains offset them.
        """
        evened_out = drop is not None and drop.evened_out(self.allowed_drop)
        if confidence >= self.asked(share) and not evened_out:
            return "proven"
        return "likely" if confidence >= LIKELY and self.require != "proven" else ""

    def inside(self, proof_drop: Drop, speedup: Interval | None, size_bytes: int) -> bool:
        """Return whether the measurements of a finalist in the proof are within every limit."""
        return self.verdict(proof_drop, speedup, size_bytes)[0] is Verdict.WITHIN

    def why_unproven(self, proof: Proof) -> str:
        """Return the reason why a finalist is not proven."""
        speedup = proof.latency.speedup
        if speedup is None:
            return f"the latency in the proof is unsure: {proof.latency.unsure}"
        unsteady = speedup is not None and (speedup.low <= 1 if self.goal is Goal.LATENCY else speedup.high < 1)
        if speedup is not None and unsteady:
            return f"in the proof, {_interval(speedup)} is not above 1"
        if proof.drop.broken:
            return "on the hold-out samples outputs are NaN or infinite where the baseline's are finite"
        if proof.drop.evened_out(self.allowed_drop) and proof.confidence >= proof.asked:
            return (
                f"of {proof.drop.n} hold-out samples {proof.drop.better} got better and {proof.drop.worse} got worse; "
                f"the loss without the gains is {self.said(proof.drop.gross or 0)} "
                f"(budget {self.said(self.allowed_drop)})"
            )
        found = (
            f"it {self.changed(proof.drop)} on {proof.drop.n} hold-out samples{_telling(proof.drop)}; "
            f"probability of being within {self.said(self.allowed_drop)}: {percent(proof.confidence)}"
        )
        if proof.asked >= 1:
            return f"{found}; it can only be likely, because finalists before it were not proven"
        found = f"{found}, required: {percent(proof.asked, limit=True)}"
        needed = proof.drop.samples_needed(self.allowed_drop, proof.asked)
        if needed is None or not proof.drop.n < needed <= _MOST_SAMPLES:
            return found
        return f"{found}; about {needed} such samples with the same drop would be enough"

    def changed(self, drop: Drop) -> str:
        """Return the change of the score in words."""
        return f"gains {self.said(-drop.value)}" if drop.value < 0 else f"drops {self.said(drop.value)}"

    def said(self, drop: float) -> str:
        """Return a drop in words."""
        return drop_in_words(drop, self.unit)


def _telling(drop: Drop) -> str:
    return f", which count as {drop.counted}" if drop.counted < drop.n else ""


def _interval(speedup: Interval) -> str:
    return f"speed-up {speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"


def _speedup(trial: Trial) -> Interval:
    if trial.latency is None or trial.latency.speedup is None:
        raise ValueError(f"{trial.candidate.name} was not timed beside the baseline")
    return trial.latency.speedup


def _size(trial: Trial) -> int:
    if trial.size_bytes is None:
        raise ValueError(f"the size of {trial.candidate.name} was not measured")
    return trial.size_bytes
