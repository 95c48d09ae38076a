"""The search: build, check and measure candidates, then prove the best on samples that took no part."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import DataError, ModelError, NativeError
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.judge import FidelityJudge, Judge, LabelJudge
from onnxopt.measure.latency import Latency, measure_latency
from onnxopt.measure.metrics import Metric
from onnxopt.measure.session import Runtime
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.isa import target_of
from onnxopt.samples import Samples
from onnxopt.search.budget import Budget, Goal
from onnxopt.search.parts import Parts, typical_feeds
from onnxopt.search.sensitivity import rank_layers
from onnxopt.search.strategies import first_candidates, keep_counts, keep_in_float, static_pass
from onnxopt.search.trial import Candidate, Proof, SearchResult, Trial, Verdict

SENSITIVITY_SAMPLES = 32
SAME = 1.03
"""A ratio below this is noise: calibration methods, for one, lead to the same kernels."""


@dataclass(frozen=True)
class Settings:
    """What to look for and how to measure.

    Attributes:
        budget: largest accepted drop.
        goal: what the best model is best at.
        confidence: least probability, on the hold-out part, that the true drop is inside the budget.
        target: processor to quantize for, see `onnxopt.quantization.isa`.
        runtime: how models are run.
        seed: of everything random.
        batch_size: at which latency is measured.
        latency_s: time spent on the latency of one candidate; the proof takes three times that.
    """

    budget: Budget = field(default_factory=lambda: Budget(0.01))
    goal: Goal = Goal.LATENCY
    confidence: float = 0.7
    target: str = "auto"
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0
    batch_size: int = 1
    latency_s: float = 1.0


class Observer(Protocol):
    """Told what happens while it happens."""

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """These will be tried."""

    def started(self, candidate: Candidate) -> None:
        """One is being built and measured."""

    def finished(self, trial: Trial) -> None:
        """It was measured."""

    def progress(self, what: str, done: int, total: int) -> None:
        """A long step got further."""

    def best(self, model: ir.Model, trial: Trial) -> None:
        """The best so far inside the budget."""


class Silent:
    """An observer that does nothing."""

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """Nothing."""

    def started(self, candidate: Candidate) -> None:
        """Nothing."""

    def finished(self, trial: Trial) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def best(self, model: ir.Model, trial: Trial) -> None:
        """Nothing."""


def search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None = None,
    settings: Settings | None = None,
    observer: Observer | None = None,
) -> SearchResult:
    """Return the best model inside the budget, proved on the hold-out part, or the original with the reason.

    Args:
        model: stays as it is.
        parts: disjoint samples.
        metric: measured against labels; None to go by agreement with the original (fidelity).
        settings: budget, goal and how to measure.
        observer: told every step.

    A candidate that is not faster than the original, larger than it, over the budget, or that cannot be built or run
    never wins, and each says why.

    Raises:
        DataError: ONX208 `metric` is given and labels are missing, ONX209 it does not fit the outputs.
        ModelError: ONX304 the original cannot be loaded.
        NativeError: ONX401 the original cannot be run.
    """
    return _Search(model, parts, metric, settings or Settings(), observer or Silent()).run()


class _Search:
    """One search; holds what its steps share."""

    def __init__(
        self, model: ir.Model, parts: Parts, metric: Metric | None, settings: Settings, observer: Observer
    ) -> None:
        self.model, self.parts, self.metric, self.settings, self.observer = model, parts, metric, settings, observer
        self.context = Context(target_of(settings.target), parts.calibration, seed=settings.seed)
        self.judge = self._judge(parts.search)
        self.feeds = typical_feeds(parts.search, settings.batch_size)
        self.baseline_bytes = model_file.size_bytes(model)
        self.seen: dict[str, str] = {}
        self.trials: list[Trial] = []
        self.leader: Trial | None = None

    def run(self) -> SearchResult:
        baseline = self._baseline()
        self.allowed = self.settings.budget.allowed(self._score(baseline).value)
        plan = first_candidates()
        self.observer.planned(plan)
        for candidate in plan:
            self._try(candidate)
        self._refine()
        winner, model, proofs = self._prove()
        reason = self._reason(winner, proofs)
        trials = tuple(self._final(trial, winner, proofs) for trial in self.trials)
        decided = next((t for t in trials if t.verdict is Verdict.WINNER), None)
        name = self.judge.metric_name
        return SearchResult(self.judge.kind, name, self.allowed, baseline, trials, proofs, decided, model, reason)

    def _judge(self, samples: Samples) -> Judge:
        runtime, seed = self.settings.runtime, self.settings.seed
        if self.metric is None:
            return FidelityJudge(self.model, samples, runtime, seed=seed)
        return LabelJudge(self.model, samples, self.metric, runtime, seed=seed)

    def _baseline(self) -> Trial:
        score = self.judge.baseline()
        if score.non_finite:
            raise DataError(
                "ONX207",
                "the original model gives NaN or infinite outputs for these samples",
                where=f"{score.non_finite} of {score.n} samples",
                hint="Check that the samples are preprocessed as the model expects.",
            )
        latency = self._latency({"baseline": self.model}, self.settings.latency_s)["baseline"]
        return Trial(
            Candidate("baseline", ()),
            Verdict.BASELINE,
            "the original model",
            size_bytes=self.baseline_bytes,
            score=score,
            latency=latency,
        )

    @staticmethod
    def _score(trial: Trial) -> Evaluation:
        assert trial.score is not None
        return trial.score

    def _latency(self, models: dict[str, ir.Model], seconds: float) -> dict[str, Latency]:
        return measure_latency(models, self.feeds, self.settings.runtime, seconds=seconds, seed=self.settings.seed)

    def _try(self, candidate: Candidate) -> Trial:
        self.observer.started(candidate)
        trial, model = self._measure(candidate)
        self.trials.append(trial)
        if (
            trial.verdict is Verdict.WITHIN
            and model is not None
            and (self.leader is None or self._rank(trial) < self._rank(self.leader))
        ):
            self.leader = trial
            self.observer.best(model, trial)
        self.observer.finished(trial)
        return trial

    def _measure(self, candidate: Candidate) -> tuple[Trial, ir.Model | None]:
        try:
            built = Pipeline(candidate.passes).run(self.model, self.context)
            last = built.steps[-1]
            if not last.edits:
                reason = last.skipped[0].reason if last.skipped else f"{last.spec.name} finds nothing to do"
                return Trial(candidate, Verdict.UNCHANGED, reason, built.steps), None
            same = self._same_as(built.model, candidate)
            if same is not None:
                return Trial(candidate, Verdict.UNCHANGED, f"the same model as {same}", built.steps), None
            score = self.judge.evaluate(built.model)
            latency = self._latency({"baseline": self.model, candidate.name: built.model}, self.settings.latency_s)
        except (ModelError, NativeError) as error:
            return Trial(candidate, Verdict.FAILED, str(error)), None
        trial = Trial(
            candidate,
            Verdict.WITHIN,
            "",
            built.steps,
            model_file.size_bytes(built.model),
            score,
            self.judge.drop(score),
            latency[candidate.name],
        )
        verdict, reason = self._verdict(trial)
        return replace(trial, verdict=verdict, reason=reason), built.model

    def _same_as(self, model: ir.Model, candidate: Candidate) -> str | None:
        digest = hashlib.sha256(model_file.to_bytes(model)).hexdigest()
        earlier = self.seen.setdefault(digest, candidate.name)
        return earlier if earlier != candidate.name else None

    def _verdict(self, trial: Trial) -> tuple[Verdict, str]:
        assert trial.drop is not None
        assert trial.latency is not None
        assert trial.latency.speedup is not None
        assert trial.size_bytes is not None
        if trial.drop.broken or not trial.drop.value <= self.allowed:
            return Verdict.OVER_BUDGET, f"drops {trial.drop.value:.4g}, {self.allowed:.4g} is allowed"
        speedup = trial.latency.speedup
        if self.settings.goal is Goal.LATENCY and speedup.low <= 1:
            return Verdict.SLOWER, f"measured {speedup.value:.2f}x, at worst {speedup.low:.2f}x of the original's speed"
        if self.settings.goal is Goal.SIZE and speedup.high < 1:
            return Verdict.SLOWER, f"measured {speedup.value:.2f}x of the original's speed"
        if trial.size_bytes > self.baseline_bytes or (
            self.settings.goal is Goal.SIZE and trial.size_bytes == self.baseline_bytes
        ):
            return Verdict.LARGER, f"{trial.size_bytes} bytes, the original has {self.baseline_bytes}"
        return Verdict.WITHIN, f"drops {trial.drop.value:.4g}, {self.allowed:.4g} is allowed"

    def _rank(self, trial: Trial) -> float:
        """Return the sort key of a measured trial: time or size relative to the original, smaller is better."""
        if self.settings.goal is Goal.SIZE:
            assert trial.size_bytes is not None
            return trial.size_bytes / self.baseline_bytes
        assert trial.latency is not None
        assert trial.latency.speedup is not None
        return 1 / trial.latency.speedup.value

    def _sure(self, trial: Trial) -> bool:
        return (
            trial.verdict is Verdict.WITHIN
            and trial.drop is not None
            and trial.drop.probability_within(self.allowed) >= self.settings.confidence
        )

    def _refine(self) -> None:
        """Leave the most harmful layers in float while no static candidate is surely inside the budget."""
        statics = [t for t in self.trials if static_pass(t.candidate) is not None and t.drop is not None]
        if not statics or any(self._sure(t) for t in statics):
            return
        best = min(statics, key=lambda t: t.drop.value if t.drop is not None else float("inf"))
        if best.latency is None or best.latency.speedup is None or best.latency.speedup.high <= 1:
            return
        spec = static_pass(best.candidate)
        assert spec is not None
        before = Pipeline(best.candidate.passes[:-1]).run(self.model, self.context).model
        layers = tuple(edit.target for edit in best.steps[-1].edits)
        samples = self.parts.calibration.take(SENSITIVITY_SAMPLES)
        ranked = rank_layers(
            before,
            spec,
            layers,
            samples,
            self.context,
            self.settings.runtime,
            lambda done, total: self.observer.progress("sensitivity of layers", done, total),
        )
        for count in keep_counts(len(layers)):
            kept = tuple(s.layer for s in ranked[:count])
            if self._sure(self._try(keep_in_float(best.candidate, kept))):
                return

    def _finalists(self) -> list[Trial]:
        """Return the trials inside the budget, the best first; among those equally good at the goal, by drop."""
        within = [t for t in self.trials if t.verdict is Verdict.WITHIN]
        best = min(map(self._rank, within), default=1.0)

        def key(trial: Trial) -> tuple[int, float, int]:
            assert trial.drop is not None
            assert trial.size_bytes is not None
            steps_behind = int(math.log(self._rank(trial) / best) / math.log(SAME))
            return steps_behind, trial.drop.value, trial.size_bytes

        return sorted(within, key=key)

    def _prove(self) -> tuple[Trial | None, ir.Model, tuple[Proof, ...]]:
        """Measure finalists on the hold-out part, the best first, until one holds."""
        judge = self._judge(self.parts.holdout)
        proofs: list[Proof] = []
        finalists = self._finalists()
        for number, trial in enumerate(finalists):
            self.observer.progress("proof on the hold-out part", number, len(finalists))
            model = Pipeline(trial.candidate.passes).run(self.model, self.context).model
            score = judge.evaluate(model)
            drop = judge.drop(score)
            name = trial.candidate.name
            timed = self._latency({"baseline": self.model, name: model}, 3 * self.settings.latency_s)
            confidence = drop.probability_within(self.allowed)
            again = replace(trial, drop=drop, latency=timed[name])
            held = self._verdict(again)[0] is Verdict.WITHIN and confidence >= self.settings.confidence
            proofs.append(Proof(name, judge.baseline(), score, drop, confidence, timed["baseline"], timed[name], held))
            if held:
                self.observer.progress("proof on the hold-out part", len(finalists), len(finalists))
                return trial, model, tuple(proofs)
        return None, self.model, tuple(proofs)

    def _final(self, trial: Trial, winner: Trial | None, proofs: Sequence[Proof]) -> Trial:
        if winner is not None and trial.candidate == winner.candidate:
            return replace(trial, verdict=Verdict.WINNER, reason="the best that was proved on the hold-out part")
        proof = next((p for p in proofs if p.candidate == trial.candidate.name), None)
        if proof is not None and not proof.accepted:
            return replace(trial, verdict=Verdict.UNPROVEN, reason=self._unproven(proof))
        return trial

    def _unproven(self, proof: Proof) -> str:
        assert proof.latency.speedup is not None
        if proof.latency.speedup.low <= 1 and self.settings.goal is Goal.LATENCY:
            return f"measured again, its speed-up of {proof.latency.speedup.value:.2f}x did not hold"
        return (
            f"on {proof.drop.n} hold-out samples it drops {proof.drop.value:.4g}; inside {self.allowed:.4g} with "
            f"probability {proof.confidence:.2f}, {self.settings.confidence:.2f} is asked for"
        )

    def _reason(self, winner: Trial | None, proofs: Sequence[Proof]) -> str:
        if winner is not None:
            proof = proofs[-1]
            return (
                f"{winner.candidate.name} is the best of {len(self.trials)} candidates inside the budget: it drops "
                f"{proof.drop.value:.4g} on {proof.drop.n} hold-out samples, inside {self.allowed:.4g} with "
                f"probability {proof.confidence:.2f}"
            )
        if proofs:
            why = self._unproven(proofs[0])
            return f"no candidate held on the hold-out part; the best of them, {proofs[0].candidate}: {why}"
        verdicts = {t.verdict for t in self.trials}
        if verdicts <= {Verdict.UNCHANGED, Verdict.FAILED}:
            return "no pass finds anything to do in this model"
        if Verdict.OVER_BUDGET in verdicts:
            return "every candidate that is faster and not larger drops more than the budget allows"
        return "no candidate is faster than the original"
