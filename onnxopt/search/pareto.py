"""Trials that no other trial beats at everything."""

from collections.abc import Sequence

from onnxopt.search.trial import Trial, Verdict

_KEPT = (Verdict.WINNER, Verdict.WITHIN, Verdict.OVER_BUDGET, Verdict.UNPROVEN)


def pareto_front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the measured trials to which none is at least equal in speed, size and score and better in one.

    In the order of falling speed. Those that are slower or larger than the original are left out.
    """
    measured = [t for t in trials if t.verdict in _KEPT and _costs(t) is not None]
    front = [t for t in measured if not any(_beats(other, t) for other in measured)]
    return tuple(sorted(front, key=lambda t: _costs(t) or ()))


def _beats(one: Trial, other: Trial) -> bool:
    a, b = _costs(one), _costs(other)
    assert a is not None
    assert b is not None
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _costs(trial: Trial) -> tuple[float, float, float] | None:
    """Return relative time, bytes and drop: smaller is better in each."""
    speedup = trial.latency.speedup if trial.latency is not None else None
    if speedup is None or trial.size_bytes is None or trial.drop is None or trial.drop.broken:
        return None
    return 1 / speedup.value, float(trial.size_bytes), trial.drop.value
