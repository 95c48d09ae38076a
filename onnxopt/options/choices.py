"""Words that an option may have, where a command and a call share them."""

from typing import Literal

Effort = Literal["normal", "high"]
"""Number of INT8 forms to try."""

Mode = Literal["auto", "static", "dynamic"]
"""Time at which activation scales are computed; `auto` measures the forms."""

Placement = Literal["all", "measured"]
"""Layers to quantize: all, or those that were measured faster in INT8."""

Scenario = Literal["single", "batch", "offline", "streams"]
"""Load on a model in deployment."""

SessionGoal = Literal["latency", "cold-start", "memory", "throughput"]
"""Figure that the settings of a session are chosen by."""
