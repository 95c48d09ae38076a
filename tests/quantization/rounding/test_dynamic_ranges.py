"""Weights of dynamic INT8 for processors that saturate: none can, and none loses more precision than it must."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from tests import builders
from tests.quantization.rounding.saturating import bound

NAMES = ["gemm_mlp", "transformer_17", "lstm", "attention_node"]
SCALES = ["per_channel=true", "per_channel=false"]
TYPES = "op_types=[MatMul,Gemm,LSTM,Attention]"


def attention_node() -> ir.Model:
    """Return the runtime's own attention operator, with one weight for queries, keys and values."""
    net = builders.Net(5)
    out = net.node("Attention", "x", net.weight(16, 48, name="w"), net.weight(48), domain="com.microsoft", num_heads=2)
    net.node("Relu", out, out="y")
    model = net.model([("x", builders.F, [1, 6, 16])], [("y", builders.F, [1, 6, 16])])
    model.opset_imports["com.microsoft"] = 1
    return model


def made(name: str, target: str, options: str = "per_channel=true") -> ir.Model:
    model = attention_node() if name == "attention_node" else builders.BUILDERS[name]()
    spec = f"quantize-dynamic{{{TYPES},{options}}}"
    return Pipeline(parse(spec)).run(model, Context(target_of(target))).model


def matrices(model: ir.Model) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each weight, shape (outputs, inputs), with the scales of its outputs."""
    for node in model.graph.all_nodes():
        if node.op_type == "DynamicQuantizeLSTM":
            for weight, scale in ((1, 8), (2, 10)):
                for direction, scales in zip(array(node, weight), array(node, scale), strict=True):
                    yield direction.T, scales
        elif node.op_type == "QAttention":
            yield array(node, 1).T, array(node, 4)
        elif node.op_type == "MatMulInteger":
            stored = node.inputs[1]
            assert stored is not None
            scales = model.graph.initializers[(stored.name or "").replace("_quantized", "_scale")].const_value
            assert scales is not None
            yield array(node, 1).T, scales.numpy()


def array(node: ir.Node, place: int) -> np.ndarray:
    value = node.inputs[place]
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


@pytest.mark.parametrize("options", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_no_layer_can_saturate_where_pairs_are_added_in_16_bits(name: str, options: str) -> None:
    found = list(matrices(made(name, "x86-avx2", options)))
    assert found
    assert not any(bound(rows).saturates for rows, _ in found)
    # A test of the test: 8 bits without limits can.
    assert any(bound(rows).saturates for rows, _ in matrices(made(name, "x86-vnni", options)))


@pytest.mark.parametrize("options", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_scales_grow_no_further_than_7_bits_need(name: str, options: str) -> None:
    eight, limited, seven = (
        [scales for _, scales in matrices(made(name, target, f"{options}{more}"))]
        for target, more in (("x86-vnni", ""), ("x86-avx2", ""), ("x86-vnni", ",reduce_range=yes"))
    )
    for least, scales, most in zip(eight, limited, seven, strict=True):
        assert (scales >= least * (1 - 1e-6)).all()
        assert (scales <= most * (1 + 1e-6)).all()
    assert sum(s.sum() for s in limited) < 0.98 * sum(s.sum() for s in seven)


def test_layers_in_sub_graphs_cannot_saturate_either() -> None:
    weights = []
    for target in ("x86-avx2", "x86-vnni"):
        model = made("loop", target)
        inner = [n for n in model.graph.all_nodes() if n.op_type == "MatMulInteger" and n.graph is not model.graph]
        weights.append([array(node, 1).T for node in inner])
    assert len(weights[0]) == len(weights[1]) > 0
    assert not any(bound(rows).saturates for rows in weights[0])
