"""One attempt at a model of low rank: built by a plan, proved, and timed against the original."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

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
class Attempt:
    """A model that was built by a plan.

    Attributes:
        plan: as it was carried out.
        reduced: the layers that became products.
        model: with them.
        difference: between the outputs with products and with the weights that they stand for.
        share: of the original's time; None where it was not measured.
        note: why it was not measured.
    """

    plan: RankPlan
    reduced: FactorizedModel
    model: ir.Model
    difference: float
    share: float | None
    note: str

    @property
    def is_faster(self) -> bool:
        """Whether it takes less time than the original, or was not measured."""
        return self.share is None or self.share < 1.0

    def over(self, goal: float | None) -> float:
        """Return by how much the share of the time is larger than the goal; 0 where one of them is missing."""
        return 0.0 if goal is None or self.share is None else self.share - goal

    def is_over(self, goal: float | None) -> bool:
        """Return whether the goal was measured to be missed."""
        return goal is not None and self.over(goal) > goal * (_NEAR - 1)

    def misses(self, goal: float | None) -> list[str]:
        """Return a line for each way in which the time was missed or not measured."""
        # A goal that was lowered for this attempt may be missed where the user's is reached.
        missed = [self.plan.missed if goal is None or self.share is None else "", self.note]
        if goal is not None and self.is_over(goal):
            missed.append(f"goal missed: {goal:.0%} of the time, {self.share:.0%} measured")
        return [text for text in missed if text]

    def edits(self) -> tuple[Edit, ...]:
        """Return an edit for each layer that became a product, and one for the measured time."""
        edits = []
        for name in self.reduced.factors:
            candidate = self.plan.chosen[name]
            ranks = "x".join(map(str, candidate.choice.ranks))
            what = f"{candidate.choice.form} form, rank {ranks}: {candidate.macs:.0%} of its MACs"
            edits.append(Edit(name, f"{what}, {candidate.error:.1%} of its variance lost"))
        predicted = self.plan.time_share
        text = "" if predicted is None else f"predicted to take {predicted:.0%} of the time"
        if self.share is not None:
            text = f"{text}, measured {self.share:.0%}" if text else "measured to be faster than the original"
        return (*edits, *([Edit("graph", text)] if text else []))


@dataclass(frozen=True)
class AttemptBuilder:
    """Builds attempts from plans.

    Attributes:
        original: that attempts are timed against.
        work: its layers.
        seen: statistics of the layers on calibration samples.
        samples: that layers are fitted on; None to use the weights alone.
        feeds: one sample, that attempts are proved and timed with.
        sequential: fit each layer on the outputs of the layers reduced before it.
        timed: measure the time.
    """

    original: ir.Model
    work: FactorizableModel
    seen: Mapping[str, LayerStatistics]
    samples: Samples | None
    feeds: Feeds
    sequential: bool
    timed: bool

    def __call__(self, plan: RankPlan) -> tuple[Attempt | None, str]:
        """Return the attempt, or None and the reason when the model does not compute the products."""
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
        return Attempt(plan, reduced, result, difference, share, note), ""
