"""The picture of the sensitivity shows what the table says, and nothing of a name is markup."""

import pytest
from plotly.graph_objects import Figure

from onnxopt.report.sensitivity_plot import sensitivity_figure, sensitivity_page
from onnxopt.search.mix.layer_table import LayerSensitivity

FOUND = (
    LayerSensitivity("a", "INT8", 0.01),
    LayerSensitivity("<b>bold</b>", "INT8", None, "no kernel"),
    LayerSensitivity("a", "channels -25%", 1e-9),
)


def test_every_figure_has_its_place():
    drawn = Figure(sensitivity_figure(FOUND, "model")).data[0]
    assert drawn.x == ("INT8", "channels -25%")
    assert [list(row) for row in drawn.z] == [[pytest.approx(-2), -5], [None, None]]
    assert drawn.text[1][0] == "&lt;b&gt;bold&lt;/b&gt;, INT8: no kernel"
    assert drawn.text[1][1] == ""


def test_the_page_needs_no_network():
    page = sensitivity_page(FOUND, "model")
    assert "<b>bold" not in page
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page


def test_the_page_is_the_same_each_time():
    assert sensitivity_page(FOUND, "model") == sensitivity_page(FOUND, "model")


def test_nothing_is_a_picture_too():
    assert Figure(sensitivity_figure((), "model")).data[0].z == ()
