"""One attempt at a low-rank model: built from a plan, proved, and timed against the baseline."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.document import units
from onnxopt.measure.verdict import PROVED, PROVED_HALF, prove, time_share
from onnxopt.pipeline import Edit
from onnxopt.reconstruction.factorizable import FactorizableModel
from onnxopt.reconstruction.low_rank.fit import FactorizedModel, reduce
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics
from onnxopt.reconstruction.low_rank.plan import RankPlan
from onnxopt.samples import Feeds, Samples

_NEAR = 1.01
"""Tolerance on a goal for the time, which noise cannot resolve."""


@dataclass(frozen=True)
class LowRankAttempt:
    """A model built from a plan.

    Attributes:
        plan: the plan.
        reduced: the layers replaced by products.
        model: the model with the products.
        difference: difference of the outputs between the products and the weights that they represent.
        share: time relative to the baseline; None if it was not measured.
        note: the reason why it was not measured.
    """

    plan: RankPlan
    reduced: FactorizedModel
    model: ir.Model
    difference: float
    share: float | None
    note: str

    @property
    def is_faster(self) -> bool:
        """Return whether it takes less time than the baseline, or was not measured."""
        return self.share is None or self.share < 1.0

    def over(self, goal: float | None) -> float:
        """Return the excess of the time share over the goal; 0 if one of them is missing."""
        return 0.0 if goal is None or self.share is None else self.share - goal

    def is_over(self, goal: float | None) -> bool:
        """Return whether the measured time misses the goal."""
        return goal is not None and self.over(goal) > goal * (_NEAR - 1)

    def misses(self, goal: float | None) -> list[str]:
        """Return a line for a missed goal, and one for a time that was not measured."""
        # The goal may have been lowered for this attempt: only the user's goal counts.
        missed = [self.plan.missed if goal is None or self.share is None else "", self.note]
        if goal is not None and self.share is not None and self.is_over(goal):
            missed.append(f"goal missed: {units.share(goal)} of the time, {units.share(self.share)} measured")
        return [text for text in missed if text]

    def edits(self) -> tuple[Edit, ...]:
        """Return an edit for each replaced layer, and one for the measured time."""
        edits = []
        for name in self.reduced.factors:
            candidate = self.plan.chosen[name]
            ranks = "x".join(map(str, candidate.choice.ranks))
            what = f"{candidate.choice.form} form, rank {ranks}: {units.share(candidate.macs)} of its MACs"
            edits.append(Edit(name, f"{what}, {units.share(candidate.error, 1)} of its variance lost"))
        predicted = self.plan.time_share
        text = "" if predicted is None else f"predicted to take {units.share(predicted)} of the time"
        if self.share is not None:
            text = f"{text}, measured {units.share(self.share)}" if text else "measured to be faster than the original"
        return (*edits, *([Edit("graph", text)] if text else []))


@dataclass(frozen=True)
class AttemptBuilder:
    """Builds attempts from plans.

    Attributes:
        original: the baseline of the timing.
        work: layers of the original.
        seen: statistics of the layers on calibration samples.
        samples: samples for fits; None uses the weights alone.
        feeds: one sample for the proof and the timing.
        sequential: whether to fit each layer on the outputs of the layers reduced before it.
        timed: whether to measure the time.
    """

    original: ir.Model
    work: FactorizableModel
    seen: Mapping[str, LayerStatistics]
    samples: Samples | None
    feeds: Feeds
    sequential: bool
    timed: bool

    def __call__(self, plan: RankPlan) -> tuple[LowRankAttempt | None, str]:
        """Return the attempt; or None and the reason if the model's outputs are not those of the products."""
        work = self.work
        choices = {name: candidate.choice for name, candidate in plan.chosen.items()}
        reduced = reduce(work.model, work.layers, choices, self.seen, self.samples, sequential=self.sequential)
        result = work.whole(reduced)
        kinds = {work.model.graph.initializers[work.layers[name].weight].dtype for name in choices}
        limit = PROVED_HALF if ir.DataType.FLOAT16 in kinds else PROVED
        difference, reason = prove(reduced.model, result, self.feeds, limit)
        if reason:
            return None, reason
        share, note = time_share(self.original, result, self.feeds) if self.timed else (None, "")
        return LowRankAttempt(plan, reduced, result, difference, share, note), ""
