"""The search: build, check and measure candidates, then prove the best on samples that took no part."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes, parse
from onnxopt.errors import DataError, ModelError, NativeError
from onnxopt.measure.judge import Judge
from onnxopt.measure.latency import Latency
from onnxopt.measure.remembered import cache_folder
from onnxopt.measure.score import Metric
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.quantization.isa import target_of
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.samples import Samples
from onnxopt.search.aim import Aim
from onnxopt.search.bar import MOST_PROOFS, Bar
from onnxopt.search.budget import Goal
from onnxopt.search.cluster import Cluster, bench_resource, security_of
from onnxopt.search.executor import Isolated
from onnxopt.search.journal import Journal
from onnxopt.search.layer_times import LayerTimes
from onnxopt.search.losses import Known, Losses
from onnxopt.search.mix import ROUNDS, Mixer, quantizer_of
from onnxopt.search.observer import Observer, Silent
from onnxopt.search.parts import Parts, typical_feeds
from onnxopt.search.recovery import last_stage, stages_before
from onnxopt.search.runner import LOST, Apart, Here, Runner, Work, judge_of
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
from onnxopt.search.tables import Tables, tables_of
from onnxopt.search.trial import Candidate, Proof, SearchResult, Trial, Verdict

Stamp = Callable[[ir.Model, tuple[Pass, ...]], ir.Model]

PROOF_LATENCY_FACTOR = 3


def search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None = None,
    settings: Settings | None = None,
    observer: Observer | None = None,
    size_bytes: int | None = None,
    stamp: Stamp | None = None,
    journal: Journal | None = None,
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
        journal: where measurements are written down, and taken from; None for nowhere.

    A candidate that is not faster than the original, larger than it, over the budget, or that cannot be built or run
    never wins, and each says why.

    Raises:
        DataError: ONX207 the original gives NaN on these samples, ONX208 `metric` is given and labels are missing,
            ONX209 it does not fit the outputs.
        ModelError: ONX304 the original cannot be loaded.
        NativeError: ONX401 the original cannot be run.
    """
    made = _Search(model, parts, metric, settings or Settings(), observer or Silent(), stamp, journal or Journal())
    with made.at_work():
        return made.run(size_bytes)


class _TimeOver(Exception):
    """The time limit was reached while something was prepared that no candidate waits for."""


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
        journal: Journal,
    ) -> None:
        self.journal = journal
        self.stamp = stamp or (lambda built, _: built)
        self.model, self.parts, self.metric, self.settings, self.observer = model, parts, metric, settings, observer
        self.hurried = False
        self.context = Context(
            target_of(settings.target), parts.calibration, seed=settings.seed, progress=self._progress
        )
        self.judge = self._judge(parts.search)
        self.feeds = typical_feeds(parts.search, settings.batch_size)
        self.seen: dict[str, str] = {}
        self.trials: list[Trial] = []
        self.leader: Trial | None = None
        self.leader_model: ir.Model | None = None
        self.stopped = ""
        self.began = time.monotonic()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have a runner while the search lasts."""
        asked = self.settings
        work = Work(
            self.parts.calibration,
            self.parts.search,
            self.metric,
            self.context.target.name,
            asked.runtime,
            asked.seed,
            self.feeds,
        )
        if asked.cluster is not None:
            with Cluster(asked.cluster, asked.bench or bench_resource(), security_of(asked.tls)) as cluster:
                cluster.require_bench()
                self.runner: Runner = Apart(self.model, work, cluster.anywhere, cluster.bench, cluster.share)
                yield
        elif asked.trial_timeout_s is not None or asked.memory_limit_bytes is not None:
            self.runner = Apart(self.model, work, Isolated(asked.trial_timeout_s, asked.memory_limit_bytes))
            yield
        else:
            self.runner = Here(self.model, self.context, self.judge, work)
            yield

    @cached_property
    def losses(self) -> Losses:
        """What passes do to the outputs, as the runner measures it, or measured it in an earlier search."""
        return Known(self.runner.losses, self.model, self.context, cache_folder())

    def _progress(self, what: str, done: int, total: int) -> None:
        if self.hurried and self._late():
            raise _TimeOver
        self.observer.progress(what, done, total)

    @contextmanager
    def _hurrying(self) -> Iterator[None]:
        """Give up what is done inside when the time is over; it would only make further candidates."""
        self.hurried = True
        try:
            with suppress(_TimeOver):
                yield
        finally:
            self.hurried = False

    def run(self, size_bytes: int | None) -> SearchResult:
        baseline = self._baseline(size_bytes or model_file.size_bytes(self.model))
        assert baseline.score is not None
        assert baseline.size_bytes is not None
        allowed = self.settings.budget.allowed(baseline.score.value)
        self.bar = Bar(self.settings.goal, allowed, self.settings.confidence, baseline.size_bytes, self.judge.unit)
        self.observer.baseline(baseline, allowed)
        plan = first_candidates()
        self.observer.planned(plan)
        self.journal.begin()
        if self.settings.cluster is not None:
            score = baseline.score
            self.runner.announce([c for c in plan if self.journal.trial(c, score) is None])
        for candidate in plan:
            if not self._enough():
                self._try(candidate)
        self._keep_harmful_layers()
        self._place_layers()
        if self.settings.prune:
            self._remove_channels()
            self._mix_techniques()
        model, proofs = self._prove()
        trials = tuple(self._decided(trial, proofs) for trial in self.trials)
        winner = next((t for t in trials if t.verdict is Verdict.WINNER), None)
        return SearchResult(
            kind=self.judge.kind,
            metric=self.judge.metric_name,
            allowed_drop=allowed,
            baseline=baseline,
            trials=trials,
            proofs=proofs,
            winner=winner,
            model=model,
            reason=self._reason(proofs),
            recovered=() if winner is None else self._recovered(winner),
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
        if not self.stopped and self._late():
            self.stopped = f"the time limit of {limit:g} s was reached after {len(self.trials)} candidates"
        if not self.stopped and aim is not None and self.leader is not None and self._reaches(self.leader, aim):
            self.stopped = f"{self.leader.candidate.name} reached the target {aim.kind} of {aim}"
        return bool(self.stopped)

    def _late(self) -> bool:
        limit = self.settings.time_limit_s
        return limit is not None and time.monotonic() - self.began > limit

    def _reaches(self, trial: Trial, aim: Aim) -> bool:
        beside = trial.baseline_latency
        if aim.kind == "size":
            return aim.reached(trial.size_bytes or 0, self.bar.baseline_bytes)
        assert trial.latency is not None
        assert beside is not None
        return aim.reached(trial.latency.p50_ms, beside.p50_ms)

    def _judge(self, samples: Samples) -> Judge:
        return judge_of(self.model, samples, self.metric, self.settings.runtime, self.settings.seed)

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
        return self.runner.latency(models, seconds)

    def _build(self, candidate: Candidate) -> ir.Model:
        return Pipeline(candidate.passes).run(self.model, self.context).model

    def _try(self, candidate: Candidate) -> Trial:
        self.observer.started(candidate)
        trial, model = self._known(candidate)
        if trial is None:
            self.journal.started(candidate)
            trial, model, digest = self._measure(candidate)
            self.journal.finished(trial, digest, model)
        self.trials.append(trial)
        if model is not None and trial.verdict is Verdict.WITHIN:
            self.observer.within(model, trial)
            if self.leader is None or self.bar.rank(trial) < self.bar.rank(self.leader):
                self.leader, self.leader_model = trial, model
                self.observer.best(model, trial)
        self.observer.finished(trial)
        return trial

    def _known(self, candidate: Candidate) -> tuple[Trial | None, ir.Model | None]:
        """Return what an earlier part of this search measured, and the model where it may be the best."""
        trial = self.journal.trial(candidate, self.judge.baseline())
        if trial is None:
            return None, None
        digest = self.journal.digest(candidate)
        if digest:
            self.seen.setdefault(digest, candidate.name)
        if trial.score is None or trial.latency is None or trial.size_bytes is None:
            return trial, None
        trial = self._judged(trial)
        if trial.verdict is not Verdict.WITHIN:
            return trial, None
        try:
            return trial, self._again(candidate)
        except (ModelError, NativeError) as error:
            return replace(trial, verdict=Verdict.FAILED, reason=str(error)), None

    def _measure(self, candidate: Candidate) -> tuple[Trial, ir.Model | None, str]:
        """Return the trial, its model where it was measured, and the checksum of what the passes made."""
        digest = ""
        try:
            built = self.runner.build(candidate)
            last = built.steps[-1]
            if not last.edits:
                reason = last.skipped[0].reason if last.skipped else f"{last.spec.name} finds nothing to do"
                return Trial(candidate, Verdict.UNCHANGED, reason, built.steps), None, digest
            digest = _digest(built.model)
            earlier = self.seen.setdefault(digest, candidate.name) if digest else candidate.name
            if earlier != candidate.name:
                reason = f"the same model as {earlier}"
                return Trial(candidate, Verdict.SAME, reason, built.steps), None, digest
            model = self.stamp(built.model, candidate.passes)
            score = self.runner.score(candidate, model)
            latency = self._latency({"baseline": self.model, candidate.name: model}, self.settings.latency_s)
        except (ModelError, NativeError) as error:
            if error.code == LOST:
                raise
            return Trial(candidate, Verdict.FAILED, str(error)), None, digest
        beside, size = latency["baseline"], model_file.size_bytes(model)
        measured = Trial(candidate, Verdict.WITHIN, "", built.steps, size, score, None, latency[candidate.name], beside)
        return self._judged(measured), model, digest

    def _judged(self, trial: Trial) -> Trial:
        """Return a measured trial with its drop and its verdict."""
        assert trial.score is not None
        assert trial.latency is not None
        assert trial.latency.speedup is not None
        assert trial.size_bytes is not None
        drop = self.judge.drop(trial.score)
        verdict, reason = self.bar.verdict(drop, trial.latency.speedup, trial.size_bytes)
        return replace(trial, verdict=verdict, reason=reason, drop=drop)

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

        def rank() -> list[str]:
            return rank_layers(spec, best.candidate.passes[:-1], weighted, quantized, self.losses)

        ranked: Sequence[str] = ()
        with self._hurrying():
            ranked = self.journal.recall(f"layers by harm: {best.candidate.name}", rank)
        for count in keep_counts(len(weighted)):
            kept = tuple(ranked[:count])
            if self._enough() or not kept or self.bar.accurate(self._try(keep_in_float(best.candidate, kept))):
                return

    def _place_layers(self) -> None:
        """Leave those layers of the most accurate static candidate in float that INT8 makes slower."""
        best = self._best_static()
        if best is not None and not self._enough():
            self._try(placed(best))

    def _remove_channels(self) -> None:
        """Remove more and more channels in front of the best so far, while the drop stays inside the budget."""
        base = self.leader.candidate if self.leader is not None else Candidate("float", ())
        for macs in PRUNED:
            if self._enough():
                return
            trial = self._try(pruned(base, macs, self.settings.protect))
            if trial.verdict in (Verdict.UNCHANGED, Verdict.SAME):
                return
            if not self.bar.accurate(trial) and self.settings.train and not self._enough():
                trial = self._try(recovered(trial.candidate))
            if not self.bar.accurate(trial):
                if macs == PRUNED[0] and not self._enough():
                    self._try(pruned(base, PRUNED_LITTLE, self.settings.protect))
                return

    def _mix_techniques(self) -> None:
        """Choose for all layers together from tables of time and loss, and again by what was measured of the choice."""
        base = self.leader.candidate if self.leader is not None else self._best_static()
        quantizer = None if base is None else quantizer_of(base)
        settings = self.settings

        def tables() -> Tables:
            times = LayerTimes(cache_folder(), settings.runtime)
            return tables_of(
                self.model,
                self.context,
                self.feeds,
                settings.runtime,
                settings.goal,
                quantizer,
                times,
                settings.protect,
                self.losses,
            )

        mixer = Mixer(tables)

        def choose() -> list[str]:
            try:
                made = mixer.next()
            except (ModelError, NativeError) as error:
                self.observer.progress(f"no mix of techniques: {error}", 1, 1)
                made = None
            return [] if made is None else [made.name, format_passes(made.passes), str(made.predicted)]

        for number in range(1, ROUNDS + 1):
            if self._enough():
                return
            chosen: Sequence[str] = ()
            with self._hurrying():
                chosen = self.journal.recall(f"mix {number}", choose)
            if self._enough() or not chosen:
                return
            name, passes, predicted = chosen
            trial = self._try(Candidate(name, parse(passes), float(predicted)))
            if trial.drop is None or not self.bar.allowed_drop > 0:
                return
            mixer.learn(good=self.bar.accurate(trial), share=max(trial.drop.value, 0.0) / self.bar.allowed_drop)

    def _best_static(self) -> Candidate | None:
        statics = [t for t in self.trials if static_pass(t.candidate) and t.drop is not None and not t.drop.broken]
        return min(statics, key=_placing_order).candidate if statics else None

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
                if error.code == LOST:
                    raise
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

    def _recovered(self, winner: Trial) -> tuple[tuple[str, float], ...]:
        """Return what the winner would drop without what made up for its losses, stage by stage."""
        assert winner.drop is not None

        def drop_of(candidate: Candidate) -> list[str]:
            try:
                model = self.stamp(self._build(candidate), candidate.passes)
                return [str(self.judge.drop(self.judge.evaluate(model)).value)]
            except (ModelError, NativeError):
                return []

        found = list[tuple[str, float]]()
        for stage, candidate in stages_before(winner.candidate):
            if self._late():
                return ()
            drop = self.journal.recall(candidate.name, partial(drop_of, candidate))
            found += [(stage, float(value)) for value in drop]
        return (*found, (last_stage(winner.candidate), winner.drop.value)) if found else ()

    def _again(self, candidate: Candidate) -> ir.Model:
        """Return what was measured of a candidate: the leader is still there, others are kept, or built again."""
        if self.leader is not None and self.leader_model is not None and candidate == self.leader.candidate:
            return self.leader_model
        kept = self.journal.model(candidate)
        return kept if kept is not None else self.stamp(self._build(candidate), candidate.passes)

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


def _digest(model: ir.Model) -> str:
    return hashlib.sha256(model_file.to_bytes(model)).hexdigest() if model_file.fits_protobuf(model) else ""
