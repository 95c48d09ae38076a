from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.edit import set_weight
from onnxopt.measure.runtime import replay
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.replay import Replay, live_values
from tests import builders, numerics


@dataclass
class Counted:
    """Samples that count how often they are read."""

    samples: object
    reads: int = 0

    def __iter__(self):
        self.reads += 1
        return iter(self.samples)


def outputs_of(model: ir.Model) -> list[str]:
    return [node.outputs[0].name for node in model.graph]


@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_separable", "transformer_17", "gemm_mlp"])
def test_later_sweeps_give_what_a_whole_run_gives(name):
    model = builders.BUILDERS[name]()
    samples = Counted(builders.samples_of(model, 12, batch_size=4))
    runs = Replay(samples)
    for place, value in enumerate(outputs_of(model)):
        found = list(runs.of(model, [value], live_values(model, place)))
        expected = list(Activations(model, [value]).of(samples.samples))
        assert len(found) == 3
        for one, other in zip(found, expected, strict=True):
            assert numerics.largest_difference([one[value]], [other[value]]) <= numerics.EXACT_RELATIVE
    # The inputs were read for the first nodes only.
    assert samples.reads < len(outputs_of(model)) / 2


def test_changed_weights_behind_what_was_kept_count():
    model = builders.BUILDERS["gemm_mlp"]()
    samples = builders.samples_of(model, 8, batch_size=4)
    runs, last = Replay(samples), len(model.graph) - 1
    list(runs.of(model, [outputs_of(model)[last]], live_values(model, last)))
    weight = list(model.graph)[last].inputs[1]
    set_weight(weight, 2 * weight.const_value.numpy())
    value = outputs_of(model)[last]
    found, expected = next(runs.of(model, [value])), next(Activations(model, [value]).of(samples))
    assert np.allclose(found[value], expected[value], rtol=1e-5, atol=1e-6)


def test_what_would_take_too_much_memory_is_not_kept(monkeypatch):
    model = builders.BUILDERS["residual_cnn"]()
    samples = Counted(builders.samples_of(model, 12, batch_size=4))
    runs = Replay(samples, limit_bytes=64)
    for place, value in enumerate(outputs_of(model)):
        assert len(list(runs.of(model, [value], live_values(model, place)))) == 3
    assert samples.reads == len(outputs_of(model))
    assert replay.LIMIT_BYTES > 64


def test_live_values_are_what_later_nodes_read():
    model = builders.BUILDERS["residual_cnn"]()
    nodes = list(model.graph)
    for place in range(len(nodes) + 1):
        live = set(live_values(model, place))
        read = {v.name for node in nodes[place:] for v in node.inputs if v is not None}
        made = {v.name for node in nodes[:place] for v in node.outputs}
        assert live == read & made
