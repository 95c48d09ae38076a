"""Conversion of a search's decisions to data of its journal and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnxopt.catalog import make_pass, options_of
from onnxopt.errors import UsageError
from onnxopt.search.trial import Candidate


def names(value: object) -> tuple[str, ...]:
    """Return a list of names; raises ValueError for other data."""
    if not (isinstance(value, Sequence) and all(isinstance(item, str) for item in value)) or isinstance(value, str):
        raise ValueError("this is not a list of names")
    return tuple(value)


def numbers(value: object) -> tuple[float, ...]:
    """Return a list of numbers; raises ValueError for other data."""
    if not isinstance(value, Sequence) or not all(isinstance(item, int | float) for item in value):
        raise ValueError("this is not a list of numbers")
    return tuple(map(float, value))


def named_numbers(value: object) -> dict[str, float]:
    """Return numbers by name, in order; raises ValueError for other data."""
    if not isinstance(value, Mapping):
        raise ValueError("these are not named numbers")
    return dict(zip(names(list(value)), numbers(list(value.values())), strict=True))


def candidate_data(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON-ready data."""
    passes = [{"name": spec.name, "options": options_of(spec)} for spec in candidate.passes]
    return {"name": candidate.name, "passes": passes, "predicted": candidate.predicted}


def maybe_candidate(value: object) -> Candidate | None:
    """Return the candidate from `candidate_data`, None from None; raises ValueError for other data."""
    if value is None:
        return None
    try:
        if not isinstance(value, Mapping):
            raise TypeError
        passes = tuple(make_pass(spec["name"], spec["options"]) for spec in value["passes"])
        predicted = None if value["predicted"] is None else float(value["predicted"])
        return Candidate(str(value["name"]), passes, predicted)
    except (AttributeError, KeyError, TypeError, UsageError) as error:
        raise ValueError("this is not a candidate") from error
