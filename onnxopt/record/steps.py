"""Edits and skips of passes, counted and in words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from onnxopt.catalog import format_pass, options_of
from onnxopt.document.blocks import Column, Table
from onnxopt.document.units import seconds
from onnxopt.pipeline import Step

MOST_NAMES, MOST_REASONS, MOST_ACTIONS = 3, 3, 8
MOST_POINTS = 200
"""Recorded points of a training curve; a longer curve is thinned."""


def steps_table(steps: Sequence[Step]) -> Table:
    """Return one row per step: edits counted by action, skips counted by reason."""
    rows = tuple(
        (
            str(number),
            step.spec.name,
            counted((edit.action for edit in step.edits), MOST_ACTIONS) or "nothing to do",
            counted((skip.reason for skip in step.skipped), MOST_REASONS) or "-",
            seconds(step.duration_s),
        )
        for number, step in enumerate(steps, start=1)
    )
    columns = (Column("step", number=True), Column("pass"), Column("edits"), Column("skipped"), Column("time"))
    return Table(columns, rows)


class Skipped(Protocol):
    """A `Skip`, or its record."""

    @property
    def target(self) -> str:
        """Name of the skipped node or weight."""

    @property
    def reason(self) -> str:
        """Reason for the skip."""


def counted(words: Iterable[str], most: int | None = None) -> str:
    """Return words with counts: `Conv to INT8 (7), Gemm to INT8`; beyond the `most` frequent only their number."""
    tally = Counter(words)
    shown = [word if times == 1 else f"{word} ({times})" for word, times in tally.most_common(most)]
    rest = len(tally) - len(shown)
    return ", ".join([*shown, f"and {rest} more"] if rest else shown)


def frequent_reasons(skips: Iterable[Skipped]) -> list[str]:
    """Return the most frequent reasons as sentences, with the names of some of the layers."""
    grouped: dict[str, list[str]] = {}
    for skip in skips:
        grouped.setdefault(skip.reason, []).append(skip.target)
    ordered = sorted(grouped.items(), key=lambda item: -len(item[1]))
    lines = [f"Skipped {_names(targets)}: {reason}." for reason, targets in ordered[:MOST_REASONS]]
    rest = sum(len(targets) for _, targets in ordered[MOST_REASONS:])
    return [*lines, f"Skipped {rest} more for other reasons."] if rest else lines


def _names(targets: Sequence[str]) -> str:
    shown = ", ".join(targets[:MOST_NAMES])
    more = len(targets) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def step_data(step: Step) -> dict[str, Any]:
    """Return one step, JSON-ready."""
    return {
        "pass_name": step.spec.name,
        "spec": format_pass(step.spec),
        "options": options_of(step.spec),
        "duration_s": round(step.duration_s, 3),
        "edits": [{"target": e.target, "action": e.action} for e in step.edits],
        "skipped": [{"target": s.target, "reason": s.reason} for s in step.skipped],
        "proved_difference": step.difference,
        "curve": step.curve[:: max(1, len(step.curve) // MOST_POINTS)],
    }
