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
"""Number of runs of the baseline on every sample: its outputs serve for all that is found on them."""

_HOPELESS = 2.0
"""Ratio of predicted time to time left above which scoring the baseline does not start."""


@dataclass
class Late:
    """Finalists and samples left out of the proof.

    Attributes:
        finalists: names of finalists without a proof.
        why: the reason as a clause.
        fewer: a clause on fewer hold-out samples; "" if all were used.
    """

    finalists: tuple[str, ...] = ()
    why: str = ""
    fewer: str = ""

    def leave_out(self, trials: Sequence[Trial], why: str) -> None:
        """Record finalists without a proof."""
        self.finalists, self.why = tuple(trial.candidate.name for trial in trials), why

    @property
    def words(self) -> str:
        """The reason, as a clause to append; "" if nothing was left out."""
        return f"; {self.why}: {', '.join(self.finalists)}" if self.finalists else ""


def refuse_hopeless(model: Loadable, samples: Samples, runtime: Runtime, deadline: Deadline) -> None:
    """Refuse to score a baseline if its first sample shows that the time is too short.

    Raises:
        NativeError: ONX408 the time is too short.
    """
    try:
        session = Session(model, runtime)
        single = samples.with_batch_size(1)
        feeds = next(single.batches()).feeds
        session.run(feeds)
        start_s = deadline.elapsed_s()
        session.run(feeds)
    except (NativeError, ModelError):  # scoring reports the full error
        return
    batches = -(-len(samples) // single.batch_size)
    predicted_s = RUNS_OF_BASELINE * batches * (deadline.elapsed_s() - start_s)
    if predicted_s > _HOPELESS * deadline.left_s():
        raise _too_short(f"scoring it on {len(samples)} samples takes about {predicted_s:.0f} s", deadline)


@contextmanager
def baseline_in_time(deadline: Deadline, timeout_s: float | None) -> Iterator[None]:
    """Interrupt the measurement of the baseline at the time limit of the search or of a trial.

    Raises:
        NativeError: ONX408 the time limit was reached, ONX406 the time limit of a trial was reached.
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
