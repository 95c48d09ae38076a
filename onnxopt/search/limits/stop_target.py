"""A target latency or size that ends the search."""

import math
import re
from dataclasses import dataclass

from onnxopt.errors import UsageError
from onnxopt.search.trial import Trial

_SCALES = {"ms": 1.0, "us": 1e-3, "s": 1e3, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_UNITS = {"latency": ("ms", "us", "s"), "size": ("B", "kB", "MB", "GB")}


@dataclass(frozen=True)
class StopTarget:
    """The latency or size at which a search ends.

    Attributes:
        kind: `latency` or `size`.
        value: value in milliseconds or bytes, or as a share of the baseline if `relative`.
    """

    kind: str
    value: float
    relative: bool = False

    @classmethod
    def parse(cls, kind: str, text: str) -> "StopTarget":
        """Read `10ms` or `2MB`, or `0.5x` of the baseline.

        Raises:
            UsageError: ONX101 the text has another form.
        """
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*([A-Za-z]+)\s*", text)
        unit = match[2] if match else ""
        known = (*_UNITS[kind], "x")
        value = float(match[1]) if match else 0.0
        if unit not in known or not (value > 0 and math.isfinite(value)) or (unit == "x" and value >= 1):
            raise UsageError(
                "ONX101",
                f"the target {kind} cannot be read",
                where=text,
                hint=f"Write a number with one of {', '.join(known[:-1])}, or 0.5x for half of the baseline's.",
            )
        return cls(kind, value if unit == "x" else value * _SCALES[unit], unit == "x")

    def reached(self, found: float, original: float) -> bool:
        """Return whether `found` (ms or bytes) reaches the target, given the baseline's value."""
        return found <= (self.value * original if self.relative else self.value)

    def __str__(self) -> str:
        if self.relative:
            return f"{self.value:g}x"
        return f"{self.value:g} {'ms' if self.kind == 'latency' else 'bytes'}"

    def reached_by(self, trial: Trial, baseline_bytes: int) -> bool:
        """Return whether a trial reaches the target; one that was not measured does not."""
        if self.kind == "size":
            return trial.size_bytes is not None and self.reached(trial.size_bytes, baseline_bytes)
        if trial.latency is None or trial.baseline_latency is None:
            return False
        return self.reached(trial.latency.p50_ms, trial.baseline_latency.p50_ms)
