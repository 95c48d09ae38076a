"""Time reserved for the proof and the report, predicted from the measurement of the baseline."""

from dataclasses import dataclass
from math import inf

from onnxopt.search.acceptance import MOST_PROOFS

FEWEST = 8
"""Fewest hold-out samples of a proof."""

_MOST_OF_THE_REST = 0.5
"""Largest share of the time after the baseline for a proof; a longer proof uses fewer hold-out samples."""

_FURTHER_SHARE = 0.1
"""Largest share of the time after the baseline for the finalists after the first one."""

_MARGIN = 1.2
"""Safety factor on the smallest proof: interrupted work ends a little late."""

_BYTES_PER_S = 1e8
"""Lowest rate at which models are written, hashed and drawn."""

_REPORT_S = 2.0

_HOT_SHARE = 0.02
"""Largest share of the limit for the latency with one repeated input, which nothing but a remark depends on."""


@dataclass(frozen=True)
class Reserve:
    """Predicted seconds.

    Attributes:
        holdout: number of hold-out samples.
        scoring_s: scoring of the baseline and one finalist on all of them.
        timing_s: latency of both.
        brief_s: latency of both, as briefly as in the search: of a finalist that others follow.
        hot_s: latency of both with one repeated input; 0 where it is not measured.
        report_s: writing the result, without its analysis.
    """

    holdout: int
    scoring_s: float
    timing_s: float
    brief_s: float
    hot_s: float
    report_s: float

    @property
    def needed_s(self) -> float:
        """Seconds for the whole proof and the report."""
        return self.scoring_s + self.timing_s + self.hot_s + self.report_s

    @property
    def least_s(self) -> float:
        """Seconds for the smallest proof and the report."""
        return self.timing_s + self.report_s + self.scoring_s * min(FEWEST / max(self.holdout, 1), 1.0)

    @property
    def at_first_s(self) -> float:
        """Seconds to reserve while no candidate is within budget: nothing needs a longer proof yet."""
        return min(self.needed_s, _MARGIN * self.least_s)

    def kept_s(self, left_s: float) -> float:
        """Return the seconds that a search with a candidate within budget and `left_s` left reserves.

        Where a proof is short beside the rest, further finalists have time too, as the first may fail.
        """
        one_s = min(self.needed_s, max(_MARGIN * self.least_s, _MOST_OF_THE_REST * left_s))
        another_s = self.another_s(1.0)
        fitting = int(_FURTHER_SHARE * left_s / another_s) if another_s > 0 and left_s < inf else 0
        further = min(fitting, MOST_PROOFS - 1)
        return one_s + further * another_s

    def samples(self, left_s: float) -> int:
        """Return the number of hold-out samples that fit the time, 0 for too few.

        It depends on time alone, never on an outcome, so a proof on fewer samples stays valid.
        """
        spare_s = left_s - self.timing_s - self.report_s
        if spare_s >= self.scoring_s:
            return self.holdout
        fits = int(self.holdout * spare_s / self.scoring_s) if spare_s > 0 else 0
        return fits if fits >= FEWEST else 0

    def another_fits(self, left_s: float, share: float) -> bool:
        """Return whether there is time for one more finalist on that share of the hold-out part."""
        return left_s >= share * self.scoring_s / 2 + self.timing_s + self.report_s

    def another_s(self, share: float) -> float:
        """Return the seconds for one more finalist on that share of the hold-out part, whose baseline is scored."""
        return share * self.scoring_s / 2 + self.brief_s

    def that_fit(self, left_s: float, share: float) -> int:
        """Return for how many finalists on that share of the hold-out part there is time; at least one."""
        spare_s, another_s = left_s - share * self.scoring_s - self.timing_s - self.report_s, self.another_s(share)
        if another_s <= 0:
            return MOST_PROOFS
        return min(1 + max(int(min(spare_s / another_s, MOST_PROOFS)), 0), MOST_PROOFS)

    def sentence(self, limit_s: float, elapsed_s: float) -> str:
        """Return the time for proof and report, and the division of the limit, in one line."""
        left_s = limit_s - elapsed_s
        said = f"Proof and report take about {self.needed_s:.0f} s (at least {self.least_s:.0f} s)"
        if left_s < self.least_s:
            return f"{said}; the limit of {limit_s:g} s leaves {max(left_s, 0.0):.0f} s, too little for a proof."
        kept = self.kept_s(left_s)
        if kept < self.needed_s:
            return (
                f"{said}; {kept:.0f} s of the limit of {limit_s:g} s are reserved for them, with about "
                f"{self.samples(kept)} of {self.holdout} hold-out samples."
            )
        return f"{said}; {left_s - kept:.0f} s of the limit of {limit_s:g} s remain for candidates."


def reserve_of(
    *,
    scored_s: float,
    searched: int,
    holdout: int,
    timed_s: float,
    latency_s: float,
    proof_latency_s: float,
    hot: bool,
    size_bytes: int,
    limit_s: float,
) -> Reserve:
    """Return the predicted time of the proof and the report.

    Args:
        scored_s: time for scoring the baseline on `searched` samples.
        searched: number of search samples.
        holdout: number of hold-out samples.
        timed_s: time for the latency measurement of the baseline alone.
        latency_s: seconds of timed runs in that measurement.
        proof_latency_s: seconds of timed runs in the proof.
        hot: whether all latency is measured with one repeated input.
        size_bytes: the size in bytes of the model.
        limit_s: the time limit.
    """
    scoring_s = 2 * scored_s * holdout / max(searched, 1)
    more_s = 2 * max(timed_s - latency_s, 0.0)  # loading and first runs, of two models now
    report_s = _REPORT_S + size_bytes / _BYTES_PER_S
    brief_s = latency_s + more_s
    hot_s = 0.0 if hot or brief_s > _HOT_SHARE * limit_s else brief_s
    return Reserve(holdout, scoring_s, proof_latency_s + more_s, brief_s, hot_s, report_s)
