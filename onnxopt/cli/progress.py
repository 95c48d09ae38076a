"""Progress on stderr: a bar on a terminal, nothing elsewhere."""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onnxopt.cli.options import Shown
from onnxopt.printable import printable

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxopt.search.proof.prospect import Prospect
    from onnxopt.search.trial import Candidate, Trial

SHOW_AFTER_S = 2.0
"""A shorter task needs no bar."""
_FIGURES = 38
"""Columns for a short bar, the counts and both times."""


class ProgressBar:
    """A progress bar that appears after two seconds; one named task at a time."""

    def __init__(self, shown: Shown) -> None:
        self.enabled = sys.stderr.isatty() and not shown.quiet
        self._started = time.monotonic()
        self._progress: Any = None
        self._task: Any = None
        self._what = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, what: str, done: float, total: float) -> None:
        """Show the progress of task `what`, with an estimate of the remaining time."""
        if not self.enabled or time.monotonic() - self._started < SHOW_AFTER_S:
            return
        what = _shortened(printable(what), shutil.get_terminal_size().columns - _FIGURES)
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("left:"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(what, total=total)
        if self._kind(what) != self._kind(self._what):
            # Another kind of work goes at another speed.
            self._progress.reset(self._task, total=total, description=what)
        self._what = what
        self._progress.update(self._task, description=what, completed=done, total=total)

    @staticmethod
    def _kind(what: str) -> str:
        return what.partition(":")[0]

    def line(self, text: str) -> None:
        """Print a permanent line above the bar, wrapped between words; nothing without a terminal."""
        if not self.enabled:
            return
        text = _wrapped(printable(text), shutil.get_terminal_size().columns)
        if self._progress is None:
            print(text, file=sys.stderr)
        else:
            self._progress.console.print(text, markup=False, highlight=False)

    def callback(self, what: str) -> Callable[[float, float], None]:
        """Return `show` for one task."""
        return lambda done, total: self.show(what, done, total)


class SearchBar:
    """A search observer that moves a bar and numbers the candidates; in verbose mode it prints every reason."""

    def __init__(self, bar: ProgressBar, say: Callable[[str], None]) -> None:
        self.bar, self.say = bar, say
        self.done, self.planned_count, self.began = 0, 0, False

    def baseline(self, trial: "Trial", allowed_drop: float) -> None:
        """Print the figures of the baseline, and the warning that its score proves nothing."""
        self.bar.line(f"baseline: {_figures(trial)}")
        if trial.score is not None and trial.score.warning:
            self.bar.line(trial.score.warning)

    def prospect(self, prospect: "Prospect") -> None:
        """Print the smallest drop that the samples can prove."""
        self.bar.line(prospect.sentence())

    def needed(self, sentence: str) -> None:
        """Print the share of the time limit that proof and report need."""
        self.bar.line(sentence)

    def planned(self, candidates: "Sequence[Candidate]") -> None:
        """Store the number of candidates."""
        self.planned_count, self.began = len(candidates), True

    def started(self, candidate: "Candidate") -> None:
        """Show the current candidate."""
        self.bar.show(f"candidates: {candidate.name}", self.done, max(self.planned_count, self.done + 1))

    def finished(self, trial: "Trial") -> None:
        """Count and print a finished candidate."""
        self.done += 1
        total = max(self.planned_count, self.done)
        figures = _figures(trial)
        self.bar.line(
            f"{self.done}/{total} {trial.candidate.name}: {trial.verdict.value}{f', {figures}' if figures else ''}"
        )
        self.say(f"{trial.candidate.name}: {trial.verdict.value}. {trial.reason}")

    def progress(self, what: str, done: int, total: int) -> None:
        """Show the progress of a long step."""
        self.bar.show(what, done, total)

    def within(self, model: "ir.Model", trial: "Trial") -> None:
        """Do nothing: `finished` has printed it."""

    def best(self, model: "ir.Model", trial: "Trial") -> None:
        """Print the current best candidate."""
        self.say(f"best so far: {trial.candidate.name}")

    def secured(self, model: "ir.Model", trial: "Trial") -> None:
        """Print the proof so far."""
        self.say(f"proved, and in best.onnx from now on: {trial.candidate.name}; the search for a better one goes on")

    def proved(self, model: "ir.Model", trial: "Trial") -> None:
        """Do nothing: the verdict follows."""


_TIED = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, which stay on one line."""


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_TIED, " ")


def _figures(trial: "Trial") -> str:
    """Return the measured ones of latency, speed-up and size, comma-separated."""
    from onnxopt.document import units

    latency = trial.latency
    found = [] if latency is None or latency.unsure else [f"{units.significant(latency.p50_ms)} ms"]
    if latency is not None and latency.speedup is not None:
        found.append(units.times(latency.speedup.value))
    if trial.size_bytes is not None:
        found.append(units.size(trial.size_bytes))
    return ", ".join(figure.replace(" ", _TIED) for figure in found)
