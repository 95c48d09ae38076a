"""Lengths of sequences at which models are timed, each with its share of the runs: `128:0.3,1:0.7`."""

import math
from collections.abc import Mapping

from onnxopt.errors import UsageError

USUAL_LENGTH = 128
"""Steps of a sequence, or tokens of a prompt, where neither data nor an option states a length."""

MOST_RUNS = 128
"""Most runs in which each length has its share; a smaller share than one of them is refused."""

Shares = Mapping[int, float]
"""Shares of the runs by length; they add up to 1."""


def lengths_of(text: str) -> Shares:
    """Return the shares of the runs that a text states; lengths without shares are equally frequent.

    Args:
        text: lengths with commas between them, each with `:` and its share, or all without.

    Raises:
        UsageError: ONX101 the text has another form.
    """
    pairs = [part.partition(":") for part in text.split(",")]
    if len({separator for _, separator, _ in pairs}) > 1:
        raise _unreadable(text, "some lengths have a share, and others have none")
    shares = dict[int, float]()
    for length, separator, share in pairs:
        size, part = _whole(length, text), _share(share, text) if separator else 1.0
        if size in shares:
            raise _unreadable(text, f"{size} is given twice")
        shares[size] = part
    total = sum(shares.values())
    if min(shares.values()) < total / MOST_RUNS:
        raise _unreadable(text, f"a share is below one in {MOST_RUNS}")
    return {length: share / total for length, share in shares.items()}


def runs_of(shares: Shares, about: int) -> dict[int, int]:
    """Return how many of some runs have each length, with the least error of a share.

    Args:
        shares: the shares.
        about: most runs, if the shares can be kept with so many; else there are up to `MOST_RUNS`.
    """
    tried = [_rounded(shares, total) for total in range(len(shares), MOST_RUNS + 1)]
    errors = [max(abs(runs[n] / sum(runs.values()) / share - 1) for n, share in shares.items()) for runs in tried]
    close = [runs for runs, error in zip(tried, errors, strict=True) if error <= min(errors) + 1e-9]
    few = [runs for runs in close if sum(runs.values()) <= about]
    return few[-1] if few else close[0]


def words_of(shares: Shares) -> str:
    """Return the shares as a phrase."""
    return " and ".join(f"{length} ({share:.0%} of the runs)" for length, share in shares.items())


def _rounded(shares: Shares, total: int) -> dict[int, int]:
    return {length: max(round(share * total), 1) for length, share in shares.items()}


def _whole(text: str, whole: str) -> int:
    if not (text.strip().isdecimal() and int(text) > 0):
        raise _unreadable(whole, f"{text.strip()!r} is no length")
    return int(text)


def _share(text: str, whole: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise _unreadable(whole, f"{text.strip()!r} is no number") from error
    if not (found > 0 and math.isfinite(found)):
        raise _unreadable(whole, "a share has to be positive")
    return found


def _unreadable(text: str, why: str) -> UsageError:
    hint = "Write lengths with their shares of the runs, such as 128:0.3,1:0.7."
    return UsageError("ONX101", "the lengths of sequences cannot be read", where=text, why=why, hint=hint)
