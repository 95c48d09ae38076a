"""smallest.onnx and fastest.onnx of a run folder: within budget, not proven."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from onnxopt.run.folder import FASTEST, SMALLEST, RunFolder
from onnxopt.search.front import figures_of, smallest_and_fastest
from onnxopt.search.journal.journal import Journal
from onnxopt.search.trial import Trial, Verdict


class SmallestAndFastest:
    """The files of the smallest and the fastest candidate, written as soon as each is measured.

    Args:
        folder: the run folder.
        source: the model's file; None where it was given in memory.
    """

    def __init__(self, folder: RunFolder, source: Path | None) -> None:
        self._folder, self._source = folder, source
        self._inside: list[Trial] = []
        self._written = dict[str, Trial]()

    def within(self, model: ir.Model, trial: Trial) -> None:
        """Write the model of a trial within budget where it is the smallest or the fastest so far."""
        self._inside.append(trial)
        for file, found in _chosen(self._inside).items():
            if found is trial:
                self._write(file, model, trial)

    def settle(self, trials: Sequence[Trial], journal: Journal) -> tuple[str | None, str | None]:
        """Leave the files of the smallest and the fastest after the proof, where they are not in best.onnx.

        Args:
            trials: the trials with their verdicts after the proof.
            journal: has the models of those that were not written.

        Returns:
            The names of the candidates in smallest.onnx and fastest.onnx; None for no such file.
        """
        chosen = _chosen(trials)
        for file in (SMALLEST, FASTEST):
            trial, written = chosen.get(file), self._written.pop(file, None)
            if trial is not None and trial.verdict is Verdict.WITHIN:
                if written is not None and written.candidate == trial.candidate:
                    self._written[file] = trial
                    continue
                model = journal.model(trial.candidate)
                if model is not None:
                    self._write(file, model, trial)
                    continue
            self._folder.drop(file)
        names = {file: trial.candidate.name for file, trial in self._written.items()}
        return names.get(SMALLEST), names.get(FASTEST)

    def _write(self, file: str, model: ir.Model, trial: Trial) -> None:
        self._written[file] = trial
        self._folder.save(file, model, trial.candidate.passes, self._source)


def _chosen(trials: Sequence[Trial]) -> dict[str, Trial]:
    """Return the trials for smallest.onnx and fastest.onnx."""
    by_name = {trial.candidate.name: trial for trial in trials}
    smallest, fastest = smallest_and_fastest([point for trial in trials if (point := figures_of(trial)) is not None])
    return {file: by_name[name] for file, name in ((SMALLEST, smallest), (FASTEST, fastest)) if name is not None}
