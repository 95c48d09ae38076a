"""A page with one heatmap: the output error of each technique per layer."""

from collections.abc import Sequence
from math import log10

from plotly.io import to_html

from onnxopt.document import units
from onnxopt.report.charts import Figure, short, verbatim
from onnxopt.search.mix.layer_table import LayerSensitivity

_LEAST, _MOST = 1e-5, 1.0
"""Errors at the ends of the colour scale: negligible, and total."""


def sensitivity_page(found: Sequence[LayerSensitivity], title: str) -> str:
    """Return one offline HTML page with a heatmap of layers by techniques; equal errors give equal pages."""
    figure = sensitivity_figure(found, title)
    return str(to_html(figure, include_plotlyjs=True, full_html=True, validate=True, div_id="sensitivity"))


def sensitivity_figure(found: Sequence[LayerSensitivity], title: str) -> Figure:
    """Return the heatmap as plain data; colours are logarithmic, techniques that do not apply stay blank."""
    layers = list(dict.fromkeys(cell.layer for cell in found))
    techniques = list(dict.fromkeys(cell.technique for cell in found))
    cells = {(cell.layer, cell.technique): cell for cell in found}
    table = [[cells.get((layer, technique)) for technique in techniques] for layer in layers]
    trace = {
        "type": "heatmap",
        "x": techniques,
        "y": list(range(len(layers))),
        "z": [[_colour(cell) for cell in row] for row in table],
        "zmin": log10(_LEAST),
        "zmax": log10(_MOST),
        "colorscale": "Reds",
        "hoverongaps": True,
        "text": [[_hover(cell) for cell in row] for row in table],
        "hoverinfo": "text",
        "colorbar": {
            "title": {"text": "error of the outputs"},
            "tickvals": [-5, -4, -3, -2, -1, 0],
            "ticktext": ["0.00001", "0.0001", "0.001", "0.01", "0.1", "1"],
        },
    }
    axis = {"tickvals": list(range(len(layers))), "ticktext": [short(name) for name in layers], "autorange": "reversed"}
    layout = {"title": {"text": verbatim(title)}, "yaxis": axis, "height": 180 + 24 * len(layers)}
    return {"data": [trace], "layout": layout | {"margin": {"l": 260}}}


def _colour(cell: LayerSensitivity | None) -> float | None:
    return None if cell is None or cell.error is None else log10(min(max(cell.error, _LEAST), _MOST))


def _hover(cell: LayerSensitivity | None) -> str:
    if cell is None:
        return ""
    what = verbatim(cell.why) if cell.error is None else units.significant(cell.error)
    return f"{verbatim(cell.layer)}, {verbatim(cell.technique)}: {what}"
