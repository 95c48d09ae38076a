"""The trials of one search: each candidate built, checked and measured once."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency import Latency
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.search.baseline import Baseline, Start, Workers
from onnxopt.search.journal.journal import Journal
from onnxopt.search.judged import digest_of, given_up, judged
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.limits.pressure import Late
from onnxopt.search.losses import CachedLosses, Losses
from onnxopt.search.proof.prospect import Prospect, prospect_on
from onnxopt.search.screen import Screen
from onnxopt.search.trial import Candidate, Trial, Verdict, why_unchanged
from onnxopt.search.workers.runner import LOST

T = TypeVar("T")


class Trials:
    """The trials of a search.

    Args:
        start: the fixed parts of the search.
        workers: build, score and time candidates.
        baseline: the measured baseline.
        journal: store of finished measurements.

    Attributes:
        made: all trials in the order of time.
        baseline: the trial of the baseline.
        bar: the limits of acceptance.
        leader: the best trial within budget so far, with its model in `leader_model`.
        judge: judge of the search samples.
        stopped: the reason why no further candidate starts; empty while more do.
        sample_s: approximate seconds per sample of the baseline.
        device: the device that measures latency; None for the runner's machine.
    """

    def __init__(self, start: Start, workers: Workers, baseline: Baseline, journal: Journal) -> None:
        self.model, self.parts, self.settings = start.model, start.parts, start.settings
        self.observer, self.deadline, self.context = start.observer, start.deadline, start.context
        self.judge, self.judge_on, self.build = start.judge, start.judge_on, start.build
        self.batches, self.feeds = start.batches, start.batches.typical
        self._start, self._workers, self.journal, self.preparation = start, workers, journal, start.preparation
        self.runner, self.device = workers.runner, workers.device
        self.baseline, self.bar = baseline.trial, baseline.bar
        self.sample_s, self.reserve = baseline.sample_s, baseline.reserve
        # Reserved from the first candidate within budget on: before, there is nothing to prove.
        self._proof_s = 0.0 if self.reserve is None else self.reserve.kept_s(start.deadline.left_s())
        self.late = Late()
        self.made: list[Trial] = []
        self.leader: Trial | None = None
        self.leader_model: ir.Model | None = None
        self.stopped = ""
        self._seen: dict[str, str] = {}

    @cached_property
    def losses(self) -> Losses:
        """Output losses of passes, measured by the runner or cached from an earlier search."""
        return CachedLosses(self.runner.losses, self.model, self.context, cache_folder())

    def needed(self) -> str:
        """Return the time for proof and report in one line; "" without a limit."""
        limit_s = self.settings.time_limit_s
        if self.reserve is None or limit_s is None:
            return ""
        return self.reserve.sentence(limit_s, self.deadline.elapsed_s())

    def prospect(self, samples: int | None = None, share: float = 1.0) -> Prospect:
        """Return the prospect of a proof that takes a share of the risk, on the hold-out samples or on some of them."""
        count = len(self.parts.holdout) if samples is None else samples
        return prospect_on(self.judge.baseline(), count, self.bar.allowed_drop, self.bar.asked(share))

    def enough(self) -> bool:
        """Return whether the search ends: the target or the time limit is reached."""
        limit, aim, leader = self.settings.time_limit_s, self.settings.aim, self.leader
        if not self.stopped and self.deadline.over():
            made = len(self.made)
            self.stopped = f"the time limit of {limit:g} s was reached after {made} candidate{'s' * (made != 1)}"
        if self.stopped or aim is None or leader is None:
            return bool(self.stopped)
        if aim.reached_by(leader, self.bar.baseline_bytes):
            self.stopped = f"{leader.candidate.name} reached the target {aim.kind} of {aim}"
        return bool(self.stopped)

    def latency(self, models: dict[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Return the latency of models in alternating runs, here or on the device; `hot`: on one repeated batch."""
        return self._workers.latency(models, seconds, hot=hot)

    def run(self, candidate: Candidate, screen: Screen | None = None) -> Trial:
        """Measure a candidate, or read its measurement from the journal; a candidate past the time limit fails.

        Args:
            candidate: candidate to build, score and time.
            screen: may refuse it before, if others are much closer to the baseline; None never refuses.
        """
        self.observer.started(candidate)
        trial, model = self._known(candidate)
        if trial is None:
            self.deadline.begin()
            self.journal.started(candidate)
            try:
                with self.deadline.searching():
                    trial, model, digest = self._measure(candidate, screen)
                self.journal.finished(trial, digest, model)
            except TimeOver:
                self.journal.interrupted()
                if self.deadline.hurried:
                    raise
                trial = Trial(candidate, Verdict.FAILED, self.cut_reason())
                self.enough()  # the reason is recorded, also if no candidate would have followed
            model_file.drop_leftovers(self.model)
        self.made.append(trial)
        self._lead(trial, model)
        self.observer.finished(trial)
        return trial

    def base(self) -> Candidate:
        """Return the candidate that further passes precede: the best within budget so far, or the float model.

        Of those whose speed or size differs by noise alone it is the one with the smallest drop, because what is
        removed next adds to that.
        """
        best = self.bar.finalists(self.made)
        return best[0].candidate if best else Candidate("float", ())

    def cut_reason(self) -> str:
        """Return the reason for a trial that the time limit interrupted."""
        return (
            f"interrupted by the time limit of {self.settings.time_limit_s:g} s, less the time reserved for the proof"
        )

    def replace_made(self, place: int, trial: Trial, model: ir.Model | None) -> None:
        """Replace the trial at `place` by its second measurement."""
        self.made[place] = trial
        self.journal.finished(trial, self.journal.digest(trial.candidate), model)
        self._lead(trial, model)
        self.observer.progress(f"{trial.candidate.name}, timed again: {trial.verdict.value}", 1, 1)

    def _lead(self, trial: Trial, model: ir.Model | None) -> None:
        if model is None or trial.verdict is not Verdict.WITHIN:
            return
        self.observer.within(model, trial)
        if self.leader is None:
            self.deadline.reserve_s = self._proof_s
        if self.leader is None or self.bar.rank(trial) < self.bar.rank(self.leader):
            self.leader, self.leader_model = trial, model
            self.observer.best(model, trial)

    def recall(self, name: str, make: Callable[[], object], read: Callable[[object], T]) -> T:
        """Return the result of `make`, or its recorded result of an earlier part of this search (`Journal.recall`)."""

        def fresh() -> object:
            self.deadline.begin()
            return make()

        return self.journal.recall(name, fresh, read)

    def _known(self, candidate: Candidate) -> tuple[Trial | None, ir.Model | None]:
        """Return the trial of an earlier part of this search, with its model if it may be the best."""
        trial = self.journal.trial(candidate, self.judge.baseline())
        if trial is None:
            return None, None
        digest = self.journal.digest(candidate)
        if digest:
            self._seen.setdefault(digest, candidate.name)
        if trial.score is not None and trial.score.n < self.judge.baseline().n:
            return given_up(trial, self.judge, self.bar), None
        if trial.score is None or trial.latency is None or trial.size_bytes is None:
            return trial, None
        trial = self.judged(trial)
        if trial.verdict is not Verdict.WITHIN:
            return trial, None
        try:
            return trial, self.again(candidate)
        except (ModelError, NativeError) as error:
            return replace(trial, verdict=Verdict.FAILED, reason=str(error)), None

    def _measure(self, candidate: Candidate, screen: Screen | None) -> tuple[Trial, ir.Model | None, str]:
        """Return the trial, its model if it was measured, and the checksum of the built model."""
        digest = ""
        try:
            built = self.runner.build(candidate)
            reason = why_unchanged(built.steps)
            if reason is not None:
                return Trial(candidate, Verdict.UNCHANGED, reason, built.steps), None, digest
            digest = digest_of(built.model)
            earlier = self._seen.setdefault(digest, candidate.name) if digest else candidate.name
            if earlier != candidate.name:
                reason = f"the same model as {earlier}"
                return Trial(candidate, Verdict.SAME, reason, built.steps), None, digest
            refusal = "" if screen is None else screen.refusal(candidate.name, lambda: built.model)
            if refusal:
                return Trial(candidate, Verdict.FURTHER, refusal, built.steps), None, digest
            model = self._start.stamped(built.model, candidate)
            score = self.runner.score(candidate, model)
            if score.n < self.judge.baseline().n:
                trial = Trial(candidate, Verdict.OVER_BUDGET, "", built.steps, score=score)
                return given_up(trial, self.judge, self.bar), None, digest
            latency = self.latency({"baseline": self.model, candidate.name: model}, self.settings.latency_s)
        except (ModelError, NativeError) as error:
            if error.code == LOST:
                raise
            return Trial(candidate, Verdict.FAILED, str(error)), None, digest
        beside, size = latency["baseline"], model_file.size_bytes(model)
        measured = Trial(candidate, Verdict.WITHIN, "", built.steps, size, score, None, latency[candidate.name], beside)
        return self.judged(measured), model, digest

    def judged(self, trial: Trial) -> Trial:
        """Return a measured trial with its drop and its verdict."""
        return judged(trial, self.judge, self.bar)

    def again(self, candidate: Candidate) -> ir.Model:
        """Return the measured model of a candidate: the leader from memory, others from the journal or built again."""
        if self.leader is not None and self.leader_model is not None and candidate == self.leader.candidate:
            return self.leader_model
        kept = self.journal.model(candidate)
        return kept if kept is not None else self.build(candidate)

    def fail(self, trial: Trial, error: Exception) -> None:
        """Record that the proof of a finalist failed."""
        place = self.made.index(trial)
        self.made[place] = replace(trial, verdict=Verdict.FAILED, reason=f"on the hold-out samples: {error}")
