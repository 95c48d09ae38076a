"""The input product of recurrent layers, taken out and put back."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.graph.recurrent_split import merge_recurrent, split_recurrent
from onnxopt.reconstruction.layers import linear_layers, with_biases, write_layer
from tests import builders, numerics
from tests.builders import F, Net

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(op: str, directions: int = 1, bias: bool = True, width: int = 12, **attributes) -> ir.Model:
    net, rows = Net(30), GATES[op] * 8
    weights = [net.weight(directions, rows, width), net.weight(directions, rows, 8)]
    weights += [net.weight(directions, 2 * rows)] if bias else []
    direction = "bidirectional" if directions == 2 else "forward"
    net.node(op, "x", *weights, out="y", name="cell", hidden_size=8, direction=direction, **attributes)
    return net.model([("x", F, ["time", "batch", width])], [("y", F, ["time", directions, "batch", 8])])


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_goes_out_and_back(op: str, directions: int, bias: bool) -> None:
    extra = {"linear_before_reset": 1} if op == "GRU" and bias else {}
    model = recurrent(op, directions, bias, **extra)
    feeds, text = builders.feeds_of(model), model_file.to_bytes(model)
    before = builders.run(model, feeds)
    assert split_recurrent(model, ()) == (("cell",), {})
    assert [node.op_type for node in model.graph] == ["MatMul", op]
    assert numerics.largest_difference(before, builders.run(model, feeds)) < numerics.EXACT_RELATIVE
    merge_recurrent(model, ("cell",))
    assert model_file.to_bytes(model) == text


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("bias", [False, True])
def test_another_product_and_a_bias_go_into_the_weights(op: str, bias: bool) -> None:
    model = recurrent(op, 2, bias)
    split_recurrent(model, ())
    with_biases(model)
    (layer,) = linear_layers(model).values()
    rng = np.random.default_rng(0)
    write_layer(model, layer, rng.standard_normal((16 * GATES[op], 12)), rng.standard_normal(16 * GATES[op]))
    feeds = builders.feeds_of(model)
    before = builders.run(model, feeds)
    merge_recurrent(model, ("cell",))
    assert [node.op_type for node in model.graph] == [op]
    assert numerics.largest_difference(before, builders.run(model, feeds)) < numerics.EXACT_RELATIVE


def test_layers_that_stay_say_why() -> None:
    model = recurrent("LSTM")
    assert split_recurrent(model, ("cell",)) == ((), {"cell": "excluded by name"})
    value = model.graph[0].inputs[1]
    model.graph.outputs.append(value)
    assert split_recurrent(model, ()) == ((), {"cell": "its input weight is shared, computed, or no float"})
