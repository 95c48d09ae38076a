"""Progress on stderr: a bar on a terminal, and nothing where nobody watches."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onnxopt.cli.options import Shown

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxopt.search.trial import Candidate, Trial

SHOW_AFTER_S = 2.0
"""What ends sooner needs no bar."""


class Bar:
    """A progress bar that appears after two seconds; one task at a time, named by what is done."""

    def __init__(self, shown: Shown) -> None:
        self.enabled = sys.stderr.isatty() and not shown.quiet
        self._started = time.monotonic()
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, what: str, done: float, total: float) -> None:
        """Say how far `what` is."""
        if not self.enabled or time.monotonic() - self._started < SHOW_AFTER_S:
            return
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(what, total=total)
        self._progress.update(self._task, description=what, completed=done, total=total)

    def callback(self, what: str) -> Callable[[float, float], None]:
        """Return `show` for one thing."""
        return lambda done, total: self.show(what, done, total)


class SearchBar:
    """A search's observer that moves a bar, and in verbose mode says each verdict."""

    def __init__(self, bar: Bar, say: Callable[[str], None]) -> None:
        self.bar, self.say = bar, say
        self.done, self.planned_count, self.began = 0, 0, False

    def baseline(self, trial: "Trial", allowed_drop: float) -> None:
        """Nothing to show yet."""

    def planned(self, candidates: "Sequence[Candidate]") -> None:
        """Note how many there are."""
        self.planned_count, self.began = len(candidates), True

    def started(self, candidate: "Candidate") -> None:
        """Show which is on."""
        self.bar.show(f"measuring {candidate.name}", self.done, max(self.planned_count, self.done + 1))

    def finished(self, trial: "Trial") -> None:
        """Count it."""
        self.done += 1
        self.say(f"{trial.candidate.name}: {trial.verdict.value}. {trial.reason}")

    def progress(self, what: str, done: int, total: int) -> None:
        """Show a long step."""
        self.bar.show(what, done, total)

    def best(self, model: "ir.Model", trial: "Trial") -> None:
        """Say which leads."""
        self.say(f"best so far: {trial.candidate.name}")
