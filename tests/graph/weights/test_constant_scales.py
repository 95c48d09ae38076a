"""Products in integers, whose scales must be constants."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.weights.constant_scales import has_made_scales, must_be_constant, packs_scales, widen_products

HALF = ir.DataType.FLOAT16


def weight(name: str, array: np.ndarray) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(array, name=name), type=ir.TensorType(ir.tensor(array).dtype))


def product(level: int = 4) -> ir.Model:
    """Return a product in float16 with a bias."""
    x = ir.Value(name="x", type=ir.TensorType(HALF), shape=ir.Shape([2, 32]))
    given = [
        weight("q", np.ones((8, 1, 32), np.uint8)),
        weight("scales", np.full(8, 0.5, np.float16)),
        weight("bias", np.ones(8, np.float16)),
    ]
    numbers = {"K": 32, "N": 8, "bits": 8, "block_size": 32, "accuracy_level": level}
    node = ir.node("MatMulNBits", [x, *given[:2], None, None, given[2]], numbers, domain="com.microsoft", name="fc")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(HALF)
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=given, opset_imports={"": 17, "com.microsoft": 1})
    return ir.Model(graph, ir_version=8)


def test_only_products_in_integers_need_constant_scales() -> None:
    for level in (0, 4):
        model = product(level)
        assert packs_scales(model.graph.node("fc")) == (level == 4)
        assert must_be_constant(model.graph.initializers["scales"]) == (level == 4)
        assert not must_be_constant(model.graph.initializers["bias"])
        assert not has_made_scales(model.graph.node("fc"))


@pytest.mark.parametrize("known", [True, False])
def test_a_widened_product_has_all_its_floats_in_float32_and_its_name(known: bool) -> None:
    model = product()
    if not known:  # as of values between nodes
        model.graph.inputs[0].type = None
    widen_products(model, [model.graph.node("fc")])
    assert [node.op_type for node in model.graph] == ["Cast", "MatMulNBits", "Cast"]
    wide = model.graph.node("fc")
    assert {v.dtype for v in (*wide.inputs, *wide.outputs) if v is not None} == {ir.DataType.FLOAT, ir.DataType.UINT8}
    assert [v.dtype for v in model.graph.outputs] == [HALF]
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert set(model.graph.initializers) == {"q", "scales_float32", "bias_float32"}
