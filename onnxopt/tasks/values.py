"""Checks of option values that several calls share."""

from math import isfinite

from onnxopt.errors import UsageError


def refuse_non_positive(**values: float | None) -> None:
    """Refuse numbers that are not above 0; None stands for a default.

    Raises:
        UsageError: ONX101 one is 0, negative, infinite or NaN.
    """
    for name, value in values.items():
        if value is not None and not (value > 0 and isfinite(value)):
            why = f"{value} given"
            raise UsageError("ONX101", "invalid option value", where=name, why=why, hint="Give more than 0.")
