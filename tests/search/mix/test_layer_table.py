import numpy as np
import pytest

from onnxopt.pipeline import Context
from onnxopt.search.mix.layer_table import layer_table
from onnxopt.target import target_of
from tests import builders


@pytest.fixture(scope="module")
def table():
    model = builders.BUILDERS["residual_cnn"]()
    return layer_table(model, Context(target_of("x86-vnni"), builders.samples_of(model, count=32)))


def test_every_layer_has_a_figure_or_a_reason(table):
    assert {h.technique for h in table} == {"INT8", "rank 50%", "rank 25%", "channels -25%", "channels -50%"}
    assert all((h.error is None) == bool(h.why) for h in table)
    assert all(h.error >= 0 for h in table if h.error is not None)
    convs = {n.name for n in builders.BUILDERS["residual_cnn"]().graph if n.op_type == "Conv"}
    assert convs <= {h.layer for h in table if h.technique == "INT8"}


def test_more_channels_harm_more_and_int8_harms_little(table):
    pruned = {(h.layer, h.technique): h.error for h in table if h.error is not None}
    layers = [layer for layer, technique in pruned if technique == "channels -50%"]
    assert layers
    more = sum(pruned[layer, "channels -50%"] for layer in layers)
    assert more > sum(pruned[layer, "channels -25%"] for layer in layers)
    assert np.median([h.error for h in table if h.technique == "INT8"]) < 0.05
