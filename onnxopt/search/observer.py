"""Observers of a running search."""

from collections.abc import Sequence
from typing import Protocol

import onnx_ir as ir

from onnxopt.search.proof.prospect import Prospect
from onnxopt.search.trial import Candidate, Trial


class Observer(Protocol):
    """Receives the events of a search."""

    def baseline(self, trial: Trial, allowed_drop: float) -> None:
        """Receive the measured baseline, and the budget in the metric's unit."""

    def prospect(self, prospect: Prospect) -> None:
        """Receive the smallest drop that the hold-out samples can prove."""

    def needed(self, sentence: str) -> None:
        """Receive the time for proof and report, as a sentence."""

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """Receive the first candidates."""

    def started(self, candidate: Candidate) -> None:
        """Receive the candidate whose trial starts."""

    def finished(self, trial: Trial) -> None:
        """Receive a finished trial."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Receive the progress of a long step."""

    def within(self, model: ir.Model, trial: Trial) -> None:
        """Receive a model within budget."""

    def best(self, model: ir.Model, trial: Trial) -> None:
        """Receive the best model so far."""

    def secured(self, model: ir.Model, trial: Trial) -> None:
        """Receive the proved first candidate within budget; the search for a better one continues."""

    def proved(self, model: ir.Model, trial: Trial) -> None:
        """Receive the winner, before its analysis."""


class NullObserver:
    """An observer that does nothing; a base class for observers of some events only."""

    def baseline(self, trial: Trial, allowed_drop: float) -> None:
        """Do nothing."""

    def prospect(self, prospect: Prospect) -> None:
        """Do nothing."""

    def needed(self, sentence: str) -> None:
        """Do nothing."""

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """Do nothing."""

    def started(self, candidate: Candidate) -> None:
        """Do nothing."""

    def finished(self, trial: Trial) -> None:
        """Do nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Do nothing."""

    def within(self, model: ir.Model, trial: Trial) -> None:
        """Do nothing."""

    def best(self, model: ir.Model, trial: Trial) -> None:
        """Do nothing."""

    def secured(self, model: ir.Model, trial: Trial) -> None:
        """Do nothing."""

    def proved(self, model: ir.Model, trial: Trial) -> None:
        """Do nothing."""
