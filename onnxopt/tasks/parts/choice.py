"""The form of each part: choices for the whole folder, in the order in which they are tried."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from onnxopt.options.search import Goal
from onnxopt.tasks.parts.forms import PartForm


@dataclass(frozen=True)
class MeasuredForm:
    """A form of one part, measured with the other parts as they are.

    Attributes:
        form: the form.
        drop: drop of the probability kept per token.
        saved_ms: time of a text that it saves; negative if it costs some.
        saved_bytes: bytes that it saves.
    """

    form: PartForm
    drop: float
    saved_ms: float
    saved_bytes: int


def choices(measured: Sequence[MeasuredForm], goal: Goal, allowed: float) -> Iterator[tuple[MeasuredForm, ...]]:
    """Yield combinations of forms, one per part at most, the best first.

    The drops of the parts are added: errors of different parts have nothing to do with each other, and the divergence
    of their sum is about the sum of their divergences. What is left over is decided by measuring the whole. A form that
    gains nothing is left out.
    """
    by_part: dict[str, list[MeasuredForm | None]] = {}
    for one in measured:
        if _gain(one, goal) > 0:
            by_part.setdefault(one.form.part, [None]).append(one)
    found = []
    for some in product(*by_part.values()):
        chosen = tuple(one for one in some if one is not None)
        if chosen and sum(max(one.drop, 0.0) for one in chosen) <= allowed:
            found.append(chosen)
    yield from sorted(found, key=lambda some: -sum(_gain(one, goal) for one in some))


def _gain(one: MeasuredForm, goal: Goal) -> float:
    """Return the milliseconds or the bytes that a form saves."""
    return one.saved_ms if goal is Goal.LATENCY else float(one.saved_bytes)
