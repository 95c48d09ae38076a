"""The order of trials among forms: mixes from tables, then one form for all matrices, which no mix may lose to."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from onnxopt.search.mix.mixer import ROUNDS, Mixer
from onnxopt.search.trial import Candidate

_UNIFORM = 2
"""Most forms for all matrices that are tried, the fastest as called first."""


class Outcome(NamedTuple):
    """Measurement of a candidate.

    Attributes:
        good: whether it is likely within budget.
        share: its loss as a share of the budget, from 0.
    """

    good: bool
    share: float


Propose = Callable[[], Candidate | None]
Take = Callable[[str, Propose], Candidate | None]
"""Called with the name of a step and its proposal; returns the proposal, or that of an earlier run of the step."""
Attempt = Callable[[Candidate], Outcome | None]
"""Builds and measures a candidate; returns None where its loss remains unknown."""


def _now(_: str, propose: Propose) -> Candidate | None:
    return propose()


def try_mixes(mixer: Mixer, attempt: Attempt, take: Take = _now) -> bool:
    """Try mixes, each with the loss that follows from the measurement before; return whether their losses are known."""
    for number in range(1, ROUNDS + 1):
        chosen = take(str(number), mixer.next)
        if chosen is None:
            return True
        outcome = attempt(chosen)
        if outcome is None:
            return False
        mixer.learn(good=outcome.good, share=outcome.share)
    return True


def try_forms(mixer: Mixer, attempt: Attempt, take: Take = _now) -> None:
    """Try mixes of forms of matrices, and then one form for all, the fastest as called first, until one is good.

    Times of single matrices are shares of a profile, and may be wrong; a mix that they make slower than one form for
    all is found by measuring both. The caller ships the faster one that is within budget.
    """
    try_mixes(mixer, attempt, take)
    for number in range(1, _UNIFORM + 1):
        chosen = take(f"uniform {number}", partial(mixer.uniform, number))
        if chosen is None:
            return
        outcome = attempt(chosen)
        if outcome is not None and outcome.good:
            return
