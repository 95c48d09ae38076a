"""The quantizers write the files that the runtime's own do, and their work grows with the number of layers."""

from collections.abc import Callable, Mapping

import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnxruntime.quantization import base_quantizer, onnx_quantizer, qdq_quantizer
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.operators import conv, matmul

from onnxopt.catalog import parse
from onnxopt.model_file import from_bytes, to_bytes, to_proto
from onnxopt.model_file.proto import to_tensor
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization import ort_bridge
from onnxopt.quantization.ort import operators, pairs
from onnxopt.quantization.ort.index import IndexedModel
from onnxopt.target import target_of
from tests import builders

FORMS = ["quantize-static", "quantize-static{form=qoperator}", "quantize-dynamic"]
MODELS = ["residual_cnn", "shared_weights", "two_outputs", "data_movement", "transformer_17"]


def quantized(model: ir.Model, form: str) -> bytes:
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=2))
    return to_bytes(Pipeline(parse(form)).run(model, context).model)


def chain(layers: int) -> ir.Model:
    """Return layers of a product, its Relu, and a Gemm that is added to what went in."""
    net, x = builders.Net(0), "x"
    for number in range(layers):
        hidden = net.node("Relu", net.node("MatMul", x, net.weight(8, 8)))
        hidden = net.node("Gemm", hidden, net.weight(8, 8), net.weight(8), transB=1)
        x = net.node("Add", x, hidden, **({"out": "y"} if number == layers - 1 else {}))
    return net.model([builders.ROWS], [("y", builders.F, ["batch", 8])])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*MODELS, "chain"])
def test_the_file_is_that_of_the_runtime_itself(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = builders.BUILDERS[name] if name in MODELS else lambda: chain(3)
    indexed = quantized(build(), form)
    monkeypatch.setattr(pairs, "PairQuantizer", qdq_quantizer.QDQQuantizer)

    def of_the_runtime(
        *given: object, weights: Mapping[str, object] | None = None, avoid_saturation: bool = False
    ) -> object:
        assert not weights  # all are small
        assert not avoid_saturation  # the runtime has 7 bits only
        return onnx_quantizer.ONNXQuantizer(*given)

    monkeypatch.setattr(operators, "OperatorQuantizer", of_the_runtime)
    assert quantized(build(), form) == indexed


@pytest.mark.parametrize("name", [*MODELS, "chain"])
def test_the_runtime_copies_no_large_weight_and_quantizes_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = builders.BUILDERS[name] if name in MODELS else lambda: chain(3)
    given = onnx.load_model_from_string(quantized(build(), "quantize-dynamic"))
    copied, real = list[int](), onnx_quantizer.save_and_reload_model_with_shape_infer

    def watched(model: onnx.ModelProto) -> onnx.ModelProto:
        copied.extend(len(tensor.raw_data) for tensor in model.graph.initializer)
        return real(model)

    monkeypatch.setattr(onnx_quantizer, "save_and_reload_model_with_shape_infer", watched)
    monkeypatch.setattr(ort_bridge, "_UNREAD_BYTES", 64)
    source = build()
    before = to_bytes(source)
    light = onnx.load_model_from_string(quantized(source, "quantize-dynamic"))
    assert to_bytes(source) == before
    assert max(copied, default=0) <= 64
    assert _weights(light) == _weights(given)
    assert light.graph.node == given.graph.node
    assert light.graph.input == given.graph.input


def test_a_weight_of_a_protobuf_is_handed_on_without_a_copy() -> None:
    model = from_bytes(to_bytes(chain(1)))
    name, value = next(iter(model.graph.initializers.items()))
    assert isinstance(value.const_value, ir.serde.TensorProtoTensor)
    assert to_tensor(value.const_value, name) is value.const_value.raw
    renamed = to_tensor(value.const_value, "other")
    assert (renamed.name, renamed.raw_data) == ("other", value.const_value.raw.raw_data)
    assert value.const_value.raw.name == name


def _weights(model: onnx.ModelProto) -> dict[str, tuple[object, ...]]:
    return {
        t.name: (t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes()) for t in model.graph.initializer
    }


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the nodes and tensors that the runtime's quantizers go through one by one."""
    seen: list[int] = []

    def watch(method: str, count: Callable[..., int]) -> None:
        original = getattr(ONNXModel, method)

        def counted(*arguments: object) -> object:
            seen.append(count(*arguments))
            return original(*arguments)

        static = isinstance(ONNXModel.__dict__[method], staticmethod)
        monkeypatch.setattr(ONNXModel, method, staticmethod(counted) if static else counted)

    for method in ("input_name_to_nodes", "remove_node", "replace_output_of_all_nodes", "find_node_by_name"):
        watch(method, lambda model, *_: len(model.model.graph.node))
    watch("get_initializer", lambda model, *_: len(model.model.graph.initializer))
    watch("remove_initializer", lambda model, *_: len(model.model.graph.initializer))
    watch("_check_init", lambda *_: 1)
    watch("replace_node_input", lambda *_: 1)
    original = base_quantizer.find_by_name

    def find(name: str, items: object) -> object:
        listed = list(items)  # type: ignore[call-overload]
        seen.append(len(listed))
        return original(name, listed)

    for module in (base_quantizer, onnx_quantizer, qdq_quantizer, conv, matmul):
        monkeypatch.setattr(module, "find_by_name", find)
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_the_work_grows_with_the_layers_and_not_with_their_square(form: str, visits: list[int]) -> None:
    counts = []
    for layers in (125, 250):  # 500 and 1,000 nodes
        visits.clear()
        quantized(chain(layers), form)
        counts.append(sum(visits))
    assert counts[0] > 500
    assert counts[1] < 2.1 * counts[0]


@pytest.mark.parametrize("form", FORMS)
def test_no_channel_is_computed_alone(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The axis of a product's channels is counted from the last."""
    expected = quantized(chain(3), form)

    def alone(*_: object, **__: object) -> None:
        raise AssertionError("a channel is computed alone")

    for module in (base_quantizer, qdq_quantizer):
        monkeypatch.setattr(module, "compute_data_quant_params", alone, raising=False)
    monkeypatch.setattr(base_quantizer.BaseQuantizer, "quantize_weight_per_channel_impl", alone)
    assert quantized(chain(3), form) == expected


def test_parts_written_in_place_are_those_that_the_helpers_make() -> None:
    model = IndexedModel(to_proto(chain(1)))
    model.write_node("DequantizeLinear", ("q", "s", "z"), "d", "name", axis=1)
    model.write_node("QuantizeLinear", ("x", "s", "z"), "q", "other")
    model.add_array("z", onnx.TensorProto.INT8, (2,), int32_data=[-1, 3])
    model.add_array("s", onnx.TensorProto.FLOAT, (), float_data=[0.1])
    nodes, tensors = model.model.graph.node[-2:], model.model.graph.initializer[-2:]
    assert nodes[0] == helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "name", axis=1)
    assert nodes[1] == helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "other")
    assert tensors[0] == helper.make_tensor("z", onnx.TensorProto.INT8, (2,), [-1, 3])
    assert tensors[1] == helper.make_tensor("s", onnx.TensorProto.FLOAT, (), [0.1])
    assert model.add_array("s", onnx.TensorProto.FLOAT, (), float_data=[0.2]) == tensors[1]


def test_nodes_written_in_place_are_found_by_the_values_they_read() -> None:
    model = IndexedModel(to_proto(chain(1)))
    (value,) = (value.name for value in model.model.graph.input)
    before = len(model.input_name_to_nodes()[value])
    model.write_node("QuantizeLinear", (value, "s", "z"), "q", "other")
    assert len(model.input_name_to_nodes()[value]) == before + 1
    model.replace_input_of_all_nodes(value, "new")
    assert model.model.graph.node[-1].input[0] == "new"


def test_unread_weights_go_without_a_copy_of_the_nodes_and_missing_ones_are_named() -> None:
    model = IndexedModel(to_proto(chain(1)))
    graph, nodes = model.model.graph, list(model.model.graph.node)
    graph.initializer.add(name="unread", data_type=onnx.TensorProto.FLOAT, dims=[1], float_data=[0])
    nodes[0].input[1] = "nowhere"
    cleaned, missing = model.clean_initializers()
    assert cleaned is graph
    assert missing == {"nowhere"}
    assert "unread" not in {tensor.name for tensor in graph.initializer}
    assert all(one is other for one, other in zip(graph.node, nodes, strict=True))
