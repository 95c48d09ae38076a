"""Effects of a time limit on the baseline and on the proofs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.samples import Samples
from onnxopt.search.limits.deadline import Deadline, TimeOver
from onnxopt.search.trial import Trial

RUNS_OF_BASELINE = 1
"""How often the baseline is run on every sample: its outputs serve for all that is found on them."""

_HOPELESS = 2.0
"""Predicted time over the time left from which the baseline is not begun."""


@dataclass
class Late:
    """What was left out of the proof.

    Attributes:
        finalists: names of those that were not proved.
        why: in half a sentence.
        fewer: that fewer hold-out samples were used, in half a sentence; "" where all were.
    """

    finalists: tuple[str, ...] = ()
    why: str = ""
    fewer: str = ""

    def leave_out(self, trials: Sequence[Trial], why: str) -> None:
        """Note finalists that are not proved."""
        self.finalists, self.why = tuple(trial.candidate.name for trial in trials), why

    @property
    def words(self) -> str:
        """The reason, to follow another; "" where nothing was left out."""
        return f"; {self.why}: {', '.join(self.finalists)}" if self.finalists else ""


def refuse_hopeless(model: Loadable, samples: Samples, runtime: Runtime, deadline: Deadline) -> None:
    """Refuse to score a baseline whose first batch says that there is no time for the others.

    Raises:
        NativeError: ONX408 there is none.
    """
    try:
        session = Session(model, runtime)
        feeds = next(samples.batches()).feeds
        session.run(feeds)
        start_s = deadline.elapsed_s()
        session.run(feeds)
    except (NativeError, ModelError):  # who scores it says so in full
        return
    batches = -(-len(samples) // samples.batch_size)
    predicted_s = RUNS_OF_BASELINE * batches * (deadline.elapsed_s() - start_s)
    if predicted_s > _HOPELESS * deadline.left_s():
        raise _too_short(f"scoring it on {len(samples)} samples takes about {predicted_s:.0f} s", deadline)


@contextmanager
def baseline_in_time(deadline: Deadline, timeout_s: float | None) -> Iterator[None]:
    """Cut what measures the baseline at the time limit, or that of a trial.

    Raises:
        NativeError: ONX408 the time limit was reached, ONX406 that of a trial.
    """
    try:
        with deadline.ending(timeout_s):
            yield
    except TimeOver as over:
        if deadline.ended():
            raise _too_short("it was cut at the limit", deadline) from over
        why = f"the baseline took more than {timeout_s:g} s"
        raise NativeError("ONX406", "a trial took too long and was stopped", why=why) from over


def _too_short(why: str, deadline: Deadline) -> NativeError:
    return NativeError(
        "ONX408",
        "the time limit is too short to measure the baseline",
        where=f"{deadline.limit_s:g} s",
        why=why,
        hint="Raise --time-limit, or judge on fewer samples with --limit.",
    )
