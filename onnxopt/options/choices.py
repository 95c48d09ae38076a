"""Values that an option may have, where commands and calls share them."""

from math import isfinite
from typing import Literal

from onnxopt.errors import UsageError

Effort = Literal["normal", "high"]
"""Number of INT8 forms to try."""

Mode = Literal["auto", "static", "dynamic", "cache"]
"""Time at which activation scales are computed; `auto` measures the forms."""

Placement = Literal["all", "measured"]
"""Layers to quantize: all, or those that were measured faster in INT8."""

Scenario = Literal["single", "batch", "offline", "streams"]
"""Load on a model in deployment."""

SessionGoal = Literal["latency", "cold-start", "memory", "throughput"]
"""Figure that the settings of a session are chosen by."""


def refuse_non_positive(**values: float | None) -> None:
    """Refuse numbers that are not above 0; None stands for a default.

    Raises:
        UsageError: ONX101 one is 0, negative, infinite or NaN.
    """
    for name, value in values.items():
        if value is not None and not (value > 0 and isfinite(value)):
            why = f"{value} given"
            raise UsageError("ONX101", "invalid option value", where=name, why=why, hint="Give more than 0.")
