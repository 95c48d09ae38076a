"""The search: build, check and measure candidates, then prove the best on samples that took no part."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import DataError, ModelError, NativeError
from onnxopt.measure.judge import FidelityJudge, Judge, LabelJudge
from onnxopt.measure.latency import Latency, measure_latency
from onnxopt.measure.score import Metric
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.quantization.isa import target_of
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.samples import Samples
from onnxopt.search.aim import Aim
from onnxopt.search.bar import MOST_PROOFS, Bar
from onnxopt.search.budget import Goal
from onnxopt.search.observer import Observer, Silent
from onnxopt.search.parts import Parts, typical_feeds
from onnxopt.search.sensitivity import rank_layers
from onnxopt.search.settings import Settings
from onnxopt.search.strategies import (
    PRUNED,
    PRUNED_LITTLE,
    first_candidates,
    keep_counts,
    keep_in_float,
    placed,
    pruned,
    recovered,
    static_pass,
)
from onnxopt.search.trial import Candidate, Proof, SearchResult, Trial, Verdict

Stamp = Callable[[ir.Model, tuple[Pass, ...]], ir.Model]

SENSITIVITY_SAMPLES = 32
PROOF_LATENCY_FACTOR = 3


def search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None = None,
    settings: Settings | None = None,
    observer: Observer | None = None,
    size_bytes: int | None = None,
    stamp: Stamp | None = None,
) -> SearchResult:
    """Return the best model inside the budget, proved on the hold-out part, or the original with the reason.

    Args:
        model: stays as it is.
        parts: disjoint samples.
        metric: measured against labels; None to go by agreement with the original (fidelity).
        settings: budget, goal and how to measure.
        observer: told every step.
        size_bytes: of the file the model came from; None to go by its size when saved again.
        stamp: makes of a built model the one that is saved, so that what is measured is what ships; None for as it is.

    A candidate that is not faster than the original, larger than it, over the budget, or that cannot be built or run
    never wins, and each says why.

    Raises:
        DataError: ONX207 the original gives NaN on these samples, ONX208 `metric` is given and labels are missing,
            ONX209 it does not fit the outputs.
        ModelError: ONX304 the original cannot be loaded.
        NativeError: ONX401 the original cannot be run.
    """
    return _Search(model, parts, metric, settings or Settings(), observer or Silent(), stamp).run(size_bytes)


class _Search:
    """One search; holds what its steps share."""

    def __init__(
        self,
        model: ir.Model,
        parts: Parts,
        metric: Metric | None,
        settings: Settings,
        observer: Observer,
        stamp: Stamp | None,
    ) -> None:
        self.stamp = stamp or (lambda built, _: built)
        self.model, self.parts, self.metric, self.settings, self.observer = model, parts, metric, settings, observer
        self.context = Context(
            target_of(settings.target), parts.calibration, seed=settings.seed, progress=self.observer.progress
        )
        self.judge = self._judge(parts.search)
        self.feeds = typical_feeds(parts.search, settings.batch_size)
        self.seen: dict[str, str] = {}
        self.trials: list[Trial] = []
        self.leader: Trial | None = None
        self.leader_model: ir.Model | None = None
        self.stopped = ""
        self.began = time.monotonic()

    def run(self, size_bytes: int | None) -> SearchResult:
        baseline = self._baseline(size_bytes or model_file.size_bytes(self.model))
        assert baseline.score is not None
        assert baseline.size_bytes is not None
        allowed = self.settings.budget.allowed(baseline.score.value)
        self.bar = Bar(self.settings.goal, allowed, self.settings.confidence, baseline.size_bytes, self.judge.unit)
        self.observer.baseline(baseline, allowed)
        plan = first_candidates()
        self.observer.planned(plan)
        for candidate in plan:
            if not self._enough():
                self._try(candidate)
        self._keep_harmful_layers()
        self._place_layers()
        if self.settings.prune:
            self._remove_channels()
        model, proofs = self._prove()
        trials = tuple(self._decided(trial, proofs) for trial in self.trials)
        return SearchResult(
            kind=self.judge.kind,
            metric=self.judge.metric_name,
            allowed_drop=allowed,
            baseline=baseline,
            trials=trials,
            proofs=proofs,
            winner=next((t for t in trials if t.verdict is Verdict.WINNER), None),
            model=model,
            reason=self._reason(proofs),
            stopped=self.stopped,
            aim_reached=self._aim_reached(trials, proofs),
        )

    def _aim_reached(self, trials: Sequence[Trial], proofs: Sequence[Proof]) -> bool | None:
        aim = self.settings.aim
        if aim is None:
            return None
        winner = next((t for t in trials if t.verdict is Verdict.WINNER), None)
        if winner is None or not proofs:
            return False
        timed = replace(winner, latency=proofs[-1].latency, baseline_latency=proofs[-1].baseline_latency)
        return self._reaches(timed, aim)

    def _enough(self) -> bool:
        """Return whether to start no further candidate: the aim is reached, or the time is over."""
        limit, aim = self.settings.time_limit_s, self.settings.aim
        if not self.stopped and limit is not None and time.monotonic() - self.began > limit:
            self.stopped = f"the time limit of {limit:g} s was reached after {len(self.trials)} candidates"
        if not self.stopped and aim is not None and self.leader is not None and self._reaches(self.leader, aim):
            self.stopped = f"{self.leader.candidate.name} reached the target {aim.kind} of {aim}"
        return bool(self.stopped)

    def _reaches(self, trial: Trial, aim: Aim) -> bool:
        beside = trial.baseline_latency
        if aim.kind == "size":
            return aim.reached(trial.size_bytes or 0, self.bar.baseline_bytes)
        assert trial.latency is not None
        assert beside is not None
        return aim.reached(trial.latency.p50_ms, beside.p50_ms)

    def _judge(self, samples: Samples) -> Judge:
        runtime, seed = self.settings.runtime, self.settings.seed
        if self.metric is None:
            return FidelityJudge(self.model, samples, runtime, seed=seed)
        return LabelJudge(self.model, samples, self.metric, runtime, seed=seed)

    def _baseline(self, size_bytes: int) -> Trial:
        score = self.judge.baseline()
        if score.non_finite:
            raise DataError(
                "ONX207",
                "the original model gives NaN or infinite outputs for these samples",
                where=f"{score.non_finite} of {score.n} samples",
                hint="Check that the samples are preprocessed as the model expects.",
            )
        return Trial(
            Candidate("baseline", ()),
            Verdict.BASELINE,
            "the original model",
            size_bytes=size_bytes,
            score=score,
            latency=self._latency({"baseline": self.model}, self.settings.latency_s)["baseline"],
        )

    def _latency(self, models: dict[str, ir.Model], seconds: float) -> dict[str, Latency]:
        return measure_latency(models, self.feeds, self.settings.runtime, seconds=seconds, seed=self.settings.seed)

    def _build(self, candidate: Candidate) -> ir.Model:
        return Pipeline(candidate.passes).run(self.model, self.context).model

    def _try(self, candidate: Candidate) -> Trial:
        self.observer.started(candidate)
        trial, model = self._measure(candidate)
        self.trials.append(trial)
        within = model is not None and trial.verdict is Verdict.WITHIN
        if within and (self.leader is None or self.bar.rank(trial) < self.bar.rank(self.leader)):
            assert model is not None
            self.leader, self.leader_model = trial, model
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
                return Trial(candidate, Verdict.SAME, f"the same model as {same}", built.steps), None
            model = self.stamp(built.model, candidate.passes)
            score = self.judge.evaluate(model)
            latency = self._latency({"baseline": self.model, candidate.name: model}, self.settings.latency_s)
        except (ModelError, NativeError) as error:
            return Trial(candidate, Verdict.FAILED, str(error)), None
        drop, size, timed = self.judge.drop(score), model_file.size_bytes(model), latency[candidate.name]
        assert timed.speedup is not None
        verdict, reason = self.bar.verdict(drop, timed.speedup, size)
        beside = latency["baseline"]
        return Trial(candidate, verdict, reason, built.steps, size, score, drop, timed, beside), model

    def _same_as(self, model: ir.Model, candidate: Candidate) -> str | None:
        if not model_file.fits_protobuf(model):
            return None
        digest = hashlib.sha256(model_file.to_bytes(model)).hexdigest()
        earlier = self.seen.setdefault(digest, candidate.name)
        return earlier if earlier != candidate.name else None

    def _keep_harmful_layers(self) -> None:
        """Leave the most harmful layers in float while every static candidate drops too much."""
        worth_it = (Verdict.OVER_BUDGET, Verdict.WITHIN)  # the others are too slow or too large anyway
        statics = [t for t in self.trials if static_pass(t.candidate) and t.drop is not None and t.verdict in worth_it]
        if not statics or any(self.bar.accurate(t) for t in statics) or self._enough():
            return
        best = min(statics, key=lambda t: t.drop.value if t.drop is not None else float("inf"))
        spec = static_pass(best.candidate)
        assert spec is not None
        quantized = tuple(edit.target for edit in best.steps[-1].edits)
        weighted = tuple(edit.target for edit in best.steps[-1].edits if edit.action.split()[0] in WEIGHTED)
        ranked = rank_layers(
            self._build(Candidate("float", best.candidate.passes[:-1])),
            spec,
            weighted,
            quantized,
            self.parts.calibration.take(SENSITIVITY_SAMPLES),
            self.context,
            self.settings.runtime,
            lambda done, total: self.observer.progress("sensitivity of layers", done, total),
        )
        for count in keep_counts(len(weighted)):
            kept = tuple(s.layer for s in ranked[:count])
            if self._enough() or self.bar.accurate(self._try(keep_in_float(best.candidate, kept))):
                return

    def _place_layers(self) -> None:
        """Leave those layers of the most accurate static candidate in float that INT8 makes slower."""
        statics = [t for t in self.trials if static_pass(t.candidate) and t.drop is not None and not t.drop.broken]
        if statics and not self._enough():
            self._try(placed(min(statics, key=_placing_order).candidate))

    def _remove_channels(self) -> None:
        """Remove more and more channels in front of the best so far, while the drop stays inside the budget."""
        base = self.leader.candidate if self.leader is not None else Candidate("float", ())
        for macs in PRUNED:
            if self._enough():
                return
            trial = self._try(pruned(base, macs))
            if trial.verdict in (Verdict.UNCHANGED, Verdict.SAME):
                return
            if not self.bar.accurate(trial) and self.settings.train and not self._enough():
                trial = self._try(recovered(trial.candidate))
            if not self.bar.accurate(trial):
                if macs == PRUNED[0] and not self._enough():
                    self._try(pruned(base, PRUNED_LITTLE))
                return

    def _prove(self) -> tuple[ir.Model, tuple[Proof, ...]]:
        """Measure finalists on the hold-out part, the best first, until one holds; else return the original."""
        judge = self._judge(self.parts.holdout)
        proofs: list[Proof] = []
        finalists = self.bar.finalists(self.trials)[:MOST_PROOFS]
        for number, trial in enumerate(finalists):
            self.observer.progress("proof on the hold-out part", number, len(finalists))
            name = trial.candidate.name
            try:
                model = self._again(trial.candidate)
                score = judge.evaluate(model)
                drop = judge.drop(score)
                seconds = PROOF_LATENCY_FACTOR * self.settings.latency_s
                timed = self._latency({"baseline": self.model, name: model}, seconds)
            except (ModelError, NativeError) as error:
                self._fail(trial, error)
                continue
            speedup = timed[name].speedup
            assert speedup is not None
            assert trial.size_bytes is not None
            held = self.bar.holds(drop, speedup, trial.size_bytes, len(proofs))
            confidence = drop.probability_within(self.bar.allowed_drop)
            asked = self.bar.asked(len(proofs))
            both = (timed["baseline"], timed[name])
            proofs.append(Proof(name, judge.baseline(), score, drop, confidence, asked, *both, held))
            if held:
                self.observer.progress("proof on the hold-out part", len(finalists), len(finalists))
                return model, tuple(proofs)
        return self.model, tuple(proofs)

    def _again(self, candidate: Candidate) -> ir.Model:
        """Return what was measured of a candidate: the leader is still there, others are built again."""
        if self.leader is not None and self.leader_model is not None and candidate == self.leader.candidate:
            return self.leader_model
        return self.stamp(self._build(candidate), candidate.passes)

    def _fail(self, trial: Trial, error: Exception) -> None:
        place = self.trials.index(trial)
        self.trials[place] = replace(trial, verdict=Verdict.FAILED, reason=f"on the hold-out part: {error}")

    def _decided(self, trial: Trial, proofs: Sequence[Proof]) -> Trial:
        proof = next((p for p in proofs if p.candidate == trial.candidate.name), None)
        if proof is None:
            return trial
        if proof.accepted:
            return replace(trial, verdict=Verdict.WINNER, reason="the best that was proved on the hold-out part")
        return replace(trial, verdict=Verdict.UNPROVEN, reason=self.bar.why_unproven(proof))

    def _reason(self, proofs: Sequence[Proof]) -> str:
        if proofs and proofs[-1].accepted:
            proof = proofs[-1]
            return (
                f"{proof.candidate} is the best of {len(self.trials)} candidates: it "
                f"{self.bar.changed(proof.drop)} on {proof.drop.n} hold-out samples, inside "
                f"{self.bar.said(self.bar.allowed_drop)} with probability {proof.confidence:.2f}"
            )
        if proofs:
            best = proofs[0]
            return f"no candidate held on the hold-out part; {best.candidate}: {self.bar.why_unproven(best)}"
        verdicts = {t.verdict for t in self.trials}
        failed = next((t for t in self.trials if t.verdict is Verdict.FAILED), None)
        if failed is not None and verdicts <= {Verdict.UNCHANGED, Verdict.FAILED}:
            return f"every candidate that changes the model failed; {failed.candidate.name}: {failed.reason}"
        if verdicts <= {Verdict.UNCHANGED}:
            left = next((t for t in self.trials if t.steps and t.steps[-1].skipped), None)
            why = "" if left is None else f"; {left.candidate.name}: {left.reason}"
            return f"no pass finds anything to do in this model{why}"
        if Verdict.OVER_BUDGET in verdicts:
            return "every candidate that is faster and not larger drops more than the budget allows"
        if self.bar.goal is Goal.SIZE:
            return "no candidate is at least 1 % smaller than the original and as fast"
        if Verdict.LARGER in verdicts:
            return "the candidates that are faster are larger than the original"
        return "no candidate is faster than the original"


def _placing_order(trial: Trial) -> tuple[bool, float]:
    """Order trials inside the budget by speed, then the others by drop."""
    assert trial.drop is not None
    if trial.verdict is Verdict.WITHIN and trial.latency is not None and trial.latency.speedup is not None:
        return False, -trial.latency.speedup.value
    return True, trial.drop.value
