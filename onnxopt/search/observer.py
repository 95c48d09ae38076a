"""Observers of a running search."""

from collections.abc import Sequence
from typing import Protocol

import onnx_ir as ir

from onnxopt.search.prospect import Prospect
from onnxopt.search.trial import Candidate, Trial


class Observer(Protocol):
    """Told what happens while it happens."""

    def baseline(self, trial: Trial, allowed_drop: float) -> None:
        """The original was measured; candidates may drop `allowed_drop` in the metric's unit."""

    def prospect(self, prospect: Prospect) -> None:
        """So much can be proved with the samples there are."""

    def needed(self, sentence: str) -> None:
        """So long the proof and the report take, of a time limit."""

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """These will be tried."""

    def started(self, candidate: Candidate) -> None:
        """One is being built and measured."""

    def finished(self, trial: Trial) -> None:
        """It was measured."""

    def progress(self, what: str, done: int, total: int) -> None:
        """A long step got further."""

    def within(self, model: ir.Model, trial: Trial) -> None:
        """A model inside the budget."""

    def best(self, model: ir.Model, trial: Trial) -> None:
        """The best so far inside the budget."""

    def secured(self, model: ir.Model, trial: Trial) -> None:
        """The first candidate inside the budget was proved; the search for a better one goes on."""

    def proved(self, model: ir.Model, trial: Trial) -> None:
        """The winner, before anything is said of how it came to be."""


class NullObserver:
    """An observer that does nothing; a base for those who want to hear of some events only."""

    def baseline(self, trial: Trial, allowed_drop: float) -> None:
        """Nothing."""

    def prospect(self, prospect: Prospect) -> None:
        """Nothing."""

    def needed(self, sentence: str) -> None:
        """Nothing."""

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """Nothing."""

    def started(self, candidate: Candidate) -> None:
        """Nothing."""

    def finished(self, trial: Trial) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def within(self, model: ir.Model, trial: Trial) -> None:
        """Nothing."""

    def best(self, model: ir.Model, trial: Trial) -> None:
        """Nothing."""

    def secured(self, model: ir.Model, trial: Trial) -> None:
        """Nothing."""

    def proved(self, model: ir.Model, trial: Trial) -> None:
        """Nothing."""
