"""Secondary metrics, such as the character error rate or the perplexity."""

from collections.abc import Iterator
from math import isfinite

from onnxopt.document import units
from onnxopt.measure.accuracy import Evaluation
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import DropRecord


def details_rows(before: Evaluation, after: Evaluation) -> Iterator[tuple[str, ...]]:
    """Yield one row per figure: name, values of both models, an empty drop, number of samples."""
    known = before.details
    for name, value in after.details.items():
        yield name, _number(known.get(name)), _number(value), "", str(after.n)


def details_sentence(run: RunRecord) -> str:
    """Return the winner's secondary metrics on the hold-out samples; "" without any."""
    proof = next((proof for proof in run.proofs if proof.accepted), None)
    if proof is None or not proof.score.details:
        return ""
    figures = (f"{name}: {_number(value)}" for name, value in proof.score.details.items())
    return f"Secondary metrics on the hold-out samples: {'; '.join(figures)}."


def evened_sentence(drop: DropRecord, allowed: float, unit: str) -> str:
    """Return gains and losses separately; "" where only the net drop counts, or nothing changed."""
    if drop.gross is None or not (drop.better or drop.worse):
        return ""
    lost, room = (units.points(value, unit) for value in (drop.gross, allowed))
    words = " points" if unit == "share" else ""
    text = f"Of {drop.n} samples {drop.better} got better and {drop.worse} got worse; "
    text += f"the loss without the gains is {lost}{words} (budget {room})"
    over = drop.gross > allowed + 1e-12
    return f"{text}: it exceeds the budget, so nothing is proven." if over else f"{text}."


def _number(value: float | None) -> str:
    """Return a figure; one that is infinite, as the signal-to-noise ratio of equal signals, has no number."""
    return "-" if value is None or not isfinite(value) else units.significant(value)
