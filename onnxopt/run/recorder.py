"""Recording of a run while it happens."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes
from onnxopt.errors import FileError, OnnxoptError, first_line
from onnxopt.pipeline import Pass
from onnxopt.record.options import KeptOptions
from onnxopt.record.provenance import provenance
from onnxopt.record.recording import (
    data_record,
    default_settings_text,
    environment_record,
    model_record,
    settings_record,
    settings_text,
    trial_record,
)
from onnxopt.record.repro import Origin, repro_command
from onnxopt.record.run import FileRecord, RunRecord
from onnxopt.record.trial import ProofRecord, RecoveredRecord
from onnxopt.report.device_result import device_record
from onnxopt.run.analysis import analyze
from onnxopt.run.folder import BEST, RunFolder
from onnxopt.run.job import Job
from onnxopt.run.smallest_fastest import SmallestAndFastest
from onnxopt.search.front import pareto_front
from onnxopt.search.journal.journal import Journal
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.observer import Observer
from onnxopt.search.optimize import search
from onnxopt.search.proof.prospect import Prospect
from onnxopt.search.trial import Candidate, SearchResult, Trial, Verdict


class Recorder:
    """Runs a search and writes down what happens while it happens; the observer of the search.

    Args:
        job: the prepared search.
        folder: the folder to write to.
        origin: the origin of model and data.
        observer: called at every step.
        command: the command line, if there was one.
        options: options of the search, to resume it.
        deadline: the deadline of the whole command; None begins it now.
    """

    def __init__(
        self,
        job: Job,
        folder: RunFolder,
        *,
        origin: Origin,
        observer: Observer,
        command: str | None,
        options: KeptOptions,
        deadline: Deadline | None = None,
    ) -> None:
        self.job, self.folder, self.origin, self.observer = job, folder, origin, observer
        self.deadline = deadline or Deadline(job.settings.time_limit_s)
        self.trials: list[Trial] = []
        self.leader: Trial | None = None
        self.extremes = SmallestAndFastest(folder, job.path)
        self.secured_by: Trial | None = None
        self.begun = time.perf_counter()
        self.record = RunRecord(
            status="running",
            reason="the search has not ended",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            duration_s=0.0,
            command=(folder.command if folder.resume else None) or command,
            repro=None,
            model=model_record(job.model, job.path),
            # Reads every sample once, so that bad ones are found before anything is written.
            data=data_record(job.parts),
            settings=settings_record(job.settings),
            environment=environment_record(),
            kind="fidelity" if job.metric is None else "accuracy",
            metric="" if job.metric is None else job.metric.name,
            unit="" if job.metric is None else job.metric.unit,
            allowed_drop=None,
            baseline=None,
            trials=(),
            proofs=(),
            winner=None,
            confidence=None,
            best=(),
            options=options,
        )
        self.journal = Journal(folder.journal, self._about(), unset=default_settings_text(), resume=folder.resume)

    def _about(self) -> dict[str, str]:
        """Return the facts that measurements depend on; a search may be resumed if they are the same."""
        record = self.record
        about = settings_text(record.settings)
        parts = record.data.model_dump(mode="json").items()
        about |= {f"{part} samples": str(samples["fingerprint"]) for part, samples in parts}
        about["model"] = (
            model_file.digest(self.job.model) if model_file.fits_protobuf(self.job.model) else str(record.model.sha256)
        )
        environment = record.environment
        return about | {"metric": record.metric, "processor": environment.cpu, "versions": str(environment.versions)}

    def run(self) -> tuple[RunRecord, ir.Model]:
        """Search, and return the record and the model in best.onnx; raises like `onnxopt.optimize`."""
        size = self.record.model.size_bytes
        try:
            job = self.job
            found = search(
                job.model,
                job.parts,
                job.metric,
                job.settings,
                self,
                size_bytes=size,
                stamp=self._stamp,
                journal=self.journal,
                deadline=self.deadline,
            )
            return self._finish(found)
        except KeyboardInterrupt:
            self._blame_nobody()
            self._end("interrupted", self._interrupted())
            raise
        except Exception as error:
            if isinstance(error, OnnxoptError):
                self._blame_nobody()
            self._end("failed", str(error) if isinstance(error, OnnxoptError) else first_line(error))
            raise

    def _blame_nobody(self) -> None:
        """Record that the current candidate did not end the process, so that a resumed search tries it again."""
        if self.folder.began:
            with suppress(FileError):
                self.journal.interrupted()

    def _stamp(self, model: ir.Model, passes: tuple[Pass, ...]) -> ir.Model:
        return model_file.stamped(model, provenance(format_passes(passes), self.job.path))

    def baseline(self, trial: Trial, allowed_drop: float) -> None:
        """Write it down with the first trial."""
        score = trial.score
        self._update(
            baseline=trial_record(trial),
            allowed_drop=allowed_drop,
            metric="" if score is None else score.metric.name,
            unit="" if score is None else score.metric.unit,
            judged="" if score is None else score.choice,
            left_out=() if score is None else score.left_out,
            warning="" if score is None else score.warning,
        )
        self.observer.baseline(trial, allowed_drop)

    def prospect(self, prospect: Prospect) -> None:
        """Write it down with the first trial."""
        self._update(prospect=prospect.sentence())
        self.observer.prospect(prospect)

    def needed(self, sentence: str) -> None:
        """Write it down with the first trial."""
        self._update(time_needed=sentence)
        self.observer.needed(sentence)

    def planned(self, candidates: Sequence[Candidate]) -> None:
        """Begin the folder: the baseline could be measured."""
        self.folder.begin(self.record.model.size_bytes)
        if not self.journal.resumed:
            self._save_best(None, self.job.model)
        self.folder.write_record(self.record)
        self.observer.planned(candidates)

    def started(self, candidate: Candidate) -> None:
        """Pass it on."""
        self.observer.started(candidate)

    def finished(self, trial: Trial) -> None:
        """Write it down at once."""
        self.trials.append(trial)
        self._update()
        self.folder.write_record(self.record)
        self.observer.finished(trial)

    def progress(self, what: str, done: int, total: int) -> None:
        """Pass it on."""
        self.observer.progress(what, done, total)

    def within(self, model: ir.Model, trial: Trial) -> None:
        """Write it to the folder where it is the smallest or the fastest so far."""
        self.extremes.within(model, trial)
        self.observer.within(model, trial)

    def best(self, model: ir.Model, trial: Trial) -> None:
        """Write it to the folder at once, unless a proved one is there."""
        if self.secured_by is None:
            self.leader = trial
            self._save_best(trial, model)
        self.observer.best(model, trial)

    def secured(self, model: ir.Model, trial: Trial) -> None:
        """Write it to the folder, where it stays until the end: nothing that is not proved takes its place."""
        self.secured_by = self.leader = trial
        self._save_best(trial, model)
        self.folder.write_record(self.record)
        self.observer.secured(model, trial)

    def proved(self, model: ir.Model, trial: Trial) -> None:
        """Write it to the folder: what comes next explains it, and may be interrupted."""
        self.leader = trial
        self._save_best(trial, model)
        self.observer.proved(model, trial)

    def _save_best(self, trial: Trial | None, model: ir.Model) -> None:
        """Write best.onnx; without a trial it is the baseline, byte by byte where that is one file."""
        passes = () if trial is None else trial.candidate.passes
        files = self.folder.save_best(model, passes, self.job.path)
        self.record = self.record.model_copy(
            update={
                "winner": None if trial is None else trial.candidate.name,
                "repro": repro_command(passes, self.origin, BEST) if passes else None,
                "best": tuple(
                    FileRecord(name=f.name, sha256=model_file.sha256_of(f), size_bytes=f.stat().st_size) for f in files
                ),
            }
        )

    def _update(self, **changes: object) -> None:
        self.record = self.record.model_copy(
            update={
                "duration_s": round(time.perf_counter() - self.begun, 3),
                "trials": tuple(map(trial_record, self.trials)),
                **changes,
            }
        )

    def _end(self, status: str, reason: str) -> None:
        if self.folder.began:
            self._update(status=status, reason=reason)
            # The error names what ended the run, also when that leaves nothing to write with, such as a full disk.
            with suppress(FileError):
                self.folder.finish(self.record)

    def _interrupted(self) -> str:
        kept = "the best candidate so far, not proven"
        if self.leader is None:
            kept = "the baseline"
        elif self.leader.verdict is Verdict.WINNER:
            kept = "the proven winner; only the analysis is missing"
        elif self.leader is self.secured_by:
            kept = f"{self.leader.candidate.name} and is proved; better ones may be among those that are not"
        return f"the run was interrupted; best.onnx is {kept}"

    def _finish(self, result: SearchResult) -> tuple[RunRecord, ir.Model]:
        self.trials = list(result.trials)
        model_file.drop_leftovers(self.job.model)  # of a proof that was cut
        proof = next((p for p in result.proofs if p.accepted), None)
        if result.winner is None or result.winner is not self.leader:
            self.leader = result.winner
            self._save_best(result.winner, result.model)
        smallest, fastest = self.extremes.settle(result.trials, self.journal)
        self._update(
            stopped=result.stopped,
            aim_reached=result.aim_reached,
            recovered=tuple(RecoveredRecord(by=by, drop=drop) for by, drop in result.recovered),
            smallest=smallest,
            fastest=fastest,
            pareto=tuple(trial.candidate.name for trial in pareto_front(result.trials)),
            kind=result.kind,
            proofs=tuple(map(ProofRecord.model_validate, result.proofs)),
            devices=() if result.device is None else (device_record(result.device),),
            confidence=None if proof is None or result.winner is None else proof.confidence,
            standing=None if proof is None or result.winner is None else proof.standing or None,
        )
        self.observer.progress("analysis of the result", 0, 1)
        best = None if result.winner is None else result.model
        passes = () if result.winner is None else result.winner.candidate.passes
        settings, metric = self.job.settings, self.job.metric
        with self.deadline.ending():
            analysis = analyze(
                self.job.model,
                best,
                self.job.parts,
                metric,
                runtime=settings.runtime,
                batch_size=settings.batch_size,
                passes=passes,
            )
        status = "kept-original" if result.winner is None else "won"
        self._update(analysis=analysis, status=status, reason=result.reason)
        if not result.stopped:
            self.journal.drop_models()
        self.folder.write_golden(self.job.parts.holdout, settings.runtime.optimization)
        self.folder.finish(self.record)
        return self.record, result.model
