"""Helpers of the charts: plotly figures as plain data; the page defines the named colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from onnxopt.record.run import RunRecord

Figure = dict[str, Any]
MOST_BARS = 24


@dataclass(frozen=True)
class Chart:
    """A figure with its caption; `height` in pixels."""

    name: str
    figure: Figure
    caption: str
    height: int = 380


def verbatim(text: str) -> str:
    """Return text that plotly shows verbatim: without escaping it interprets tags and links."""
    return escape(text, quote=False).replace("%{", "% {")


def short(text: str, most: int = 34) -> str:
    """Return the end of a long name, which distinguishes layers."""
    return verbatim(text if len(text) <= most else "…" + text[1 - most :])


def axes(x: str, y: str) -> Figure:
    """Return a layout with titles on both axes."""
    return {"xaxis": {"title": {"text": verbatim(x)}}, "yaxis": {"title": {"text": verbatim(y)}}}


def bars(names: Sequence[str], x: str) -> Figure:
    """Return the layout of horizontal bars, the first at the top; bars stand at 0, 1, 2, ..."""
    layout = axes(x, "")
    layout["yaxis"] |= {"tickvals": list(range(len(names))), "ticktext": list(names), "autorange": "reversed"}
    return layout | {"barmode": "group"}


def scale(run: RunRecord) -> float:
    """Return the factor from a score to its display value."""
    return 100.0 if run.unit == "share" else 1.0


def metric(run: RunRecord) -> str:
    """Return the metric with its unit."""
    return f"{run.metric}{', %' if run.unit == 'share' else ''}"
