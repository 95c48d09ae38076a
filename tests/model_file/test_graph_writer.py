"""A model is written as `ir.to_proto` writes it, without descriptions of weights that say no more than the weights."""

import onnx
import onnx_ir as ir
import pytest

from onnxopt.model_file import to_proto
from onnxopt.model_file.graph_writer import is_plain, plain_proto
from tests import builders


def without_descriptions(proto: onnx.ModelProto) -> bytes:
    """Return the bytes of a model without the descriptions of the weights of its main graph."""
    own = {tensor.name for tensor in proto.graph.initializer}
    kept = [v for v in proto.graph.value_info if v.name not in own or v.doc_string or v.metadata_props]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    return proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", sorted(builders.BUILDERS))
def test_the_bytes_are_the_same(name: str) -> None:
    model = builders.BUILDERS[name]()
    if name == "with_function":
        assert not is_plain(model)
        return
    assert is_plain(model)
    assert plain_proto(model).SerializeToString(deterministic=True) == without_descriptions(ir.to_proto(model))


def test_a_description_that_says_more_is_kept() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    first, second = list(model.graph.initializers.values())[:2]
    first.doc_string, second.metadata_props["source"] = "a weight", "training"
    model.graph.metadata_props["b"], model.graph.metadata_props["a"] = "2", "1"
    found = to_proto(model)
    assert {v.name for v in found.graph.value_info} >= {first.name, second.name}
    assert found.SerializeToString(deterministic=True) == without_descriptions(ir.to_proto(model))


def test_annotations_are_kept() -> None:
    proto = to_proto(builders.BUILDERS["gemm_mlp"]())
    tensor = proto.graph.initializer[0].name
    entry = onnx.StringStringEntryProto(key="SCALE_TENSOR", value=proto.graph.initializer[1].name)
    proto.graph.quantization_annotation.add(tensor_name=tensor, quant_parameter_tensor_names=[entry])
    model = ir.from_proto(proto)
    assert not is_plain(model)
    assert [one.tensor_name for one in to_proto(model).graph.quantization_annotation] == [tensor]


def test_a_store_of_notes_is_made_for_no_weight() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    weights = list(model.graph.initializers.values())
    assert all(value._metadata is None for value in weights)  # else this test shows nothing
    to_proto(model)
    assert all(value._metadata is None for value in weights)


def test_a_weight_without_numbers_is_no_reason_to_fail() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    model.graph.initializers["none"] = ir.Value(name="none", type=ir.TensorType(ir.DataType.FLOAT))
    assert not is_plain(model)
    assert "none" not in {tensor.name for tensor in to_proto(model).graph.initializer}
