"""How long the proof and the report will take, from what the baseline took; kept free of the search."""

from dataclasses import dataclass

FEWEST = 8
"""Hold-out samples below which there is no proof."""

_MOST_OF_THE_REST = 0.5
"""Share of the time after the baseline that a proof may keep; a longer one takes fewer hold-out samples."""

_MARGIN = 1.2
"""Times the least for the smallest proof: what is cut ends a little late."""

_BYTES_PER_S = 1e8
"""Bytes of models that are written, hashed and drawn in a second, at least."""

_REPORT_S = 2.0


@dataclass(frozen=True)
class Reserve:
    """Predicted seconds.

    Attributes:
        holdout: samples.
        scoring_s: of the baseline and one finalist on all of them.
        timing_s: of both, beside each other.
        hot_s: the same with one input again and again; 0 where it is not measured.
        report_s: writing the result, without what explains it.
    """

    holdout: int
    scoring_s: float
    timing_s: float
    hot_s: float
    report_s: float

    @property
    def needed_s(self) -> float:
        """Seconds that the whole proof and the report take."""
        return self.scoring_s + self.timing_s + self.hot_s + self.report_s

    @property
    def least_s(self) -> float:
        """Seconds that the smallest proof and the report take."""
        return self.timing_s + self.report_s + self.scoring_s * min(FEWEST / max(self.holdout, 1), 1.0)

    def kept_s(self, left_s: float) -> float:
        """Return the seconds that a search with `left_s` left keeps free."""
        return min(self.needed_s, max(_MARGIN * self.least_s, _MOST_OF_THE_REST * left_s))

    def samples(self, left_s: float) -> int:
        """Return how many hold-out samples a proof has time for, 0 where they would be too few.

        It depends on time alone, never on an outcome, so a proof on fewer samples is a proof.
        """
        spare_s = left_s - self.timing_s - self.report_s
        if spare_s >= self.scoring_s:
            return self.holdout
        fits = int(self.holdout * spare_s / self.scoring_s) if spare_s > 0 else 0
        return fits if fits >= FEWEST else 0

    def another_fits(self, left_s: float, share: float) -> bool:
        """Return whether there is time for one more finalist on that share of the hold-out part."""
        return left_s >= share * self.scoring_s / 2 + self.timing_s + self.report_s

    def sentence(self, limit_s: float, elapsed_s: float) -> str:
        """Return in one line how long proof and report take, and what that means for the limit."""
        left_s = limit_s - elapsed_s
        said = f"Proof and report take about {self.needed_s:.0f} s, and at least {self.least_s:.0f} s"
        if left_s < self.least_s:
            return f"{said}; the limit of {limit_s:g} s leaves {max(left_s, 0.0):.0f} s: nothing can be proved in time."
        kept = self.kept_s(left_s)
        if kept < self.needed_s:
            return (
                f"{said}; of the limit of {limit_s:g} s, {kept:.0f} s are kept for them, with about "
                f"{self.samples(kept)} of {self.holdout} hold-out samples."
            )
        return f"{said}; of the limit of {limit_s:g} s, {left_s - kept:.0f} s are left for candidates."


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
) -> Reserve:
    """Return what the proof and the report will take.

    Args:
        scored_s: what scoring the baseline on `searched` samples took.
        searched: samples.
        holdout: samples.
        timed_s: what timing the baseline alone took.
        latency_s: seconds of timed runs that were asked for then.
        proof_latency_s: seconds of timed runs of the proof.
        hot: whether one input again and again is all that is timed.
        size_bytes: of the model.
    """
    scoring_s = 2 * scored_s * holdout / max(searched, 1)
    more_s = 2 * max(timed_s - latency_s, 0.0)  # loading and first runs, of two models now
    report_s = _REPORT_S + size_bytes / _BYTES_PER_S
    return Reserve(holdout, scoring_s, proof_latency_s + more_s, 0.0 if hot else latency_s + more_s, report_s)
