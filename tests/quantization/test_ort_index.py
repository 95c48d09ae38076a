"""The quantizer writes the same file with an index of readers, and its work grows with the number of layers."""

import onnx_ir as ir
import pytest
from onnxruntime.quantization.onnx_model import ONNXModel

from onnxopt.catalog import parse
from onnxopt.model_file import to_bytes
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization import ort_index
from onnxopt.target import target_of
from tests import builders


def quantized(model: ir.Model) -> bytes:
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=4))
    return to_bytes(Pipeline(parse("quantize-static{placement=all}")).run(model, context).model)


def chain(layers: int) -> ir.Model:
    net, x = builders.Net(0), "x"
    for number in range(layers):
        hidden = net.node("Relu", net.node("MatMul", x, net.weight(8, 8)))
        x = net.node("Add", x, hidden, **({"out": "y"} if number == layers - 1 else {}))
    return net.model([builders.ROWS], [("y", builders.F, ["batch", 8])])


@pytest.mark.parametrize("name", ["residual_cnn", "shared_weights", "two_outputs", "data_movement", "transformer_17"])
def test_the_file_is_that_of_the_runtime_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = quantized(builders.BUILDERS[name]())
    monkeypatch.setattr(ort_index, "IndexedModel", ONNXModel)
    assert quantized(builders.BUILDERS[name]()) == indexed


def test_nodes_visited_grow_with_the_layers_and_not_with_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    original = ONNXModel.replace_node_input

    def counted(node: object, old: str, new: str) -> None:
        visited.append(1)
        original(node, old, new)

    monkeypatch.setattr(ONNXModel, "replace_node_input", staticmethod(counted))
    counts = []
    for layers in (8, 32):
        visited.clear()
        quantized(chain(layers))
        counts.append(len(visited))
    assert counts[0] > 8
    assert counts[1] < 5 * counts[0]
