"""Shapes and types are inferred afresh."""

import onnx_ir as ir
import pytest

from onnxopt.graph.shapes import with_types
from onnxopt.model_file import light as light_file
from onnxopt.model_file import to_bytes
from tests import builders


def test_every_value_gets_type_and_shape() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    before = to_bytes(model)
    typed = with_types(model)
    for node in typed.graph:
        for value in node.outputs:
            assert value.dtype is ir.DataType.FLOAT
            assert value.shape is not None
    shape = typed.graph.node(0).outputs[0].shape
    assert shape is not None
    assert list(shape)[1:] == [8, 8, 8]
    assert to_bytes(model) == before


def test_stale_shapes_are_dropped() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    model.graph.node(0).outputs[0].shape = ir.Shape([1, 77, 8, 8])
    model.graph.node(0).outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    shape = with_types(model).graph.node(0).outputs[0].shape
    assert shape is not None
    assert shape[1] == 8


def test_operators_of_other_sets_are_passed_over() -> None:
    typed = with_types(builders.BUILDERS["zipmap"]())
    assert [n.op_type for n in typed.graph] == ["Scaler", "LinearClassifier", "Cast", "ZipMap"]
    assert typed.graph.node(2).outputs[0].dtype is ir.DataType.INT64


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_large_weights_are_shared_and_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = builders.BUILDERS[name]()
    monkeypatch.setattr(light_file, "LARGE_BYTES", 1 << 40)
    whole = to_bytes(with_types(model))
    monkeypatch.setattr(light_file, "LARGE_BYTES", 64)
    light = with_types(model)
    assert to_bytes(light) == whole
    known = {name: value.const_value for name, value in model.graph.initializers.items()}
    large = {name for name, tensor in known.items() if tensor is not None and tensor.nbytes > 64}
    assert all(light.graph.initializers[name].const_value is known[name] for name in large)
