"""What `inspect` says by operator, in time, and as advice."""

import numpy as np
import onnx_ir as ir

from onnxopt.graph.layers import anatomy_of
from onnxopt.model_file import load
from onnxopt.tasks.advice import advice
from onnxopt.tasks.inspect import inspect_model
from onnxopt.tasks.operators import operators_of
from onnxopt.tasks.quantize import quantize
from tests.conftest import MODELS


def test_operators_add_up_to_the_model():
    model = load(MODELS / "digits_resnet.onnx")
    anatomy = anatomy_of(model)
    found = operators_of(model, anatomy.macs_of_operators)
    assert sum(one.nodes for one in found) == len(list(model.graph.all_nodes()))
    assert sum(one.macs for one in found) == anatomy.macs
    assert found[0].op_type == "Conv"
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values())
    assert sum(one.weight_bytes for one in found) == weights


def test_a_shared_weight_counts_once():
    x = ir.val("x", ir.DataType.FLOAT, [1, 4])
    weight = ir.val("w", const_value=ir.tensor(np.ones((4, 4), np.float32), name="w"))
    first = ir.node("MatMul", [x, weight], outputs=[ir.val("h")])
    second = ir.node("MatMul", [first.outputs[0], weight], outputs=[ir.val("y", ir.DataType.FLOAT, [1, 4])])
    graph = ir.Graph(
        [x], second.outputs, nodes=[first, second], initializers=[weight], opset_imports={"": 18}, name="g"
    )
    (found,) = operators_of(ir.Model(graph, ir_version=9), {"MatMul": 32})
    assert (found.nodes, found.parameters, found.weight_bytes, found.macs) == (2, 16, 64, 32)


def test_time_and_advice_are_shown_on_request():
    path = MODELS / "digits_resnet.onnx"
    plain = inspect_model(path, {})
    assert "time_by_operator_ms" not in plain.data
    full = inspect_model(path, {}, timed=True, advised=True)
    assert sum(full.data["time_by_operator_ms"].values()) > 0
    said = " ".join(full.data["advice"])
    assert "7 BatchNormalization folded or removed" in said
    assert "7 Conv, 1 Gemm, with calibration samples" in said
    assert "prune-channels" in said


def test_a_quantized_model_is_called_so():
    made = quantize(MODELS / "digits_mlp.onnx", data="digits", target="x86-vnni").optimized.model
    assert "Parts of the model are quantized already." in advice(made, anatomy_of(made))
