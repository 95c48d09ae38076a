"""Raising the opset changes no output, or is refused."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxopt.errors import ModelError
from onnxopt.model_file import check, opset_of, to_bytes, upgrade_opset
from tests import builders, numerics

UPGRADES = [
    ("listed_weights_7", 13),
    ("listed_weights_8", 13),
    ("listed_weights_9", 17),
    ("depthwise_separable", 13),
    ("transformer_13", 17),
    ("runs_at_one_only", 17),
    ("static_batch", 17),
    ("if_branches", 17),
    ("loop", 17),
]


@pytest.mark.parametrize(("name", "minimum"), UPGRADES)
def test_the_outputs_stay_the_same(name: str, minimum: int) -> None:
    model = builders.BUILDERS[name]()
    before = to_bytes(model)
    raised = upgrade_opset(model, minimum)
    assert opset_of(raised) == minimum
    check(raised)
    feeds = builders.feeds_of(model, batch=1)
    difference = numerics.largest_difference(builders.run(before, feeds), builders.run(raised, feeds))
    assert difference <= numerics.EXACT_RELATIVE
    assert to_bytes(model) == before


@pytest.mark.parametrize(("name", "minimum"), [("gemm_mlp", 13), ("gemm_mlp", 7), ("trees_only", 17)])
def test_nothing_to_do_gives_the_same_object(name: str, minimum: int) -> None:
    model = builders.BUILDERS[name]()
    assert upgrade_opset(model, minimum) is model


def test_metadata_is_kept() -> None:
    model = builders.BUILDERS["with_metadata"]()
    raised = upgrade_opset(model, 17)
    assert dict(raised.metadata_props) == dict(model.metadata_props)
    assert (raised.producer_name, raised.ir_version) == (model.producer_name, model.ir_version)


def _scaled(factor: float) -> Any:
    def convert(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
        result = onnx.ModelProto.FromString(proto.SerializeToString())
        for tensor in result.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                with np.errstate(all="ignore"):
                    array = numpy_helper.to_array(tensor) * np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        result.opset_import[0].version = version
        return result

    return convert


@pytest.mark.parametrize("factor", [1.01, 0.0, float("nan"), float("inf")])
def test_another_output_is_refused(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr(onnx.version_converter, "convert_version", _scaled(factor))
    with pytest.raises(ModelError, match="ONX307") as caught:
        upgrade_opset(builders.BUILDERS["two_outputs"](), 17)
    assert "differ" in caught.value.why


def test_reassociation_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.version_converter, "convert_version", _scaled(1 + 1e-6))
    assert opset_of(upgrade_opset(builders.BUILDERS["two_outputs"](), 17)) == 17


def test_a_converter_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no adapter for Upsample\nlong trace")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    with pytest.raises(ModelError, match=r"ONX307: .*no adapter for Upsample") as caught:
        upgrade_opset(builders.BUILDERS["gemm_mlp"](), 17)
    assert "\n" not in str(caught.value)


def test_a_converted_model_that_does_not_load_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
        result = onnx.ModelProto.FromString(proto.SerializeToString())
        result.graph.node[0].op_type = "NoSuchOperator"
        return result

    monkeypatch.setattr(onnx.version_converter, "convert_version", breaks)
    with pytest.raises(ModelError, match=r"ONX307: .*cannot be compared"):
        upgrade_opset(builders.BUILDERS["gemm_mlp"](), 17)
