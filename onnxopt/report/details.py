"""Further figures beside the one that decides, such as the character error rate or the perplexity."""

from collections.abc import Iterator
from math import isfinite

from onnxopt.document import units
from onnxopt.measure.accuracy import Evaluation
from onnxopt.record.run import DropRecord, RunRecord


def details_rows(before: Evaluation, after: Evaluation) -> Iterator[tuple[str, ...]]:
    """Yield one row per figure: its name, of both models, nothing for a drop, and the number of samples."""
    known = before.details
    for name, value in after.details.items():
        yield name, _number(known.get(name)), _number(value), "", str(after.n)


def details_sentence(run: RunRecord) -> str:
    """Return the figures of the winner on the hold-out samples; "" where there are none."""
    proof = next((proof for proof in run.proofs if proof.accepted), None)
    if proof is None or not proof.score.details:
        return ""
    figures = (f"{name}: {_number(value)}" for name, value in proof.score.details.items())
    return f"Beside it, on the hold-out samples: {'; '.join(figures)}."


def evened_sentence(drop: DropRecord, allowed: float, unit: str) -> str:
    """Return gains and losses apart from each other; "" where only the net counts, or nothing changed."""
    if drop.gross is None or not (drop.better or drop.worse):
        return ""
    lost, room = (units.points(value, unit) for value in (drop.gross, allowed))
    words = " points" if unit == "share" else ""
    text = f"Gains and losses: of {drop.n} samples {drop.better} got better and {drop.worse} worse, which lost "
    text += f"{lost}{words} ({room} allowed)"
    return f"{text}: only gains make up for it, so it is not proven." if drop.gross > allowed + 1e-12 else f"{text}."


def _number(value: float | None) -> str:
    """Return a figure; one that is infinite, as the signal-to-noise ratio of equal signals, has no number."""
    return "-" if value is None or not isfinite(value) else units.significant(value)
