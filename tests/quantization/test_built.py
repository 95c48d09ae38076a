"""The bytes that the runtime's tools wrote, and the graph that was read back, are one model for ONNX Runtime."""

import onnx
import pytest

from onnxopt.catalog import parse
from onnxopt.graph.shapes import with_types
from onnxopt.measure.runtime.session import Loadable, Runtime, Session, session_and_graph
from onnxopt.model_file import from_proto, to_bytes, to_proto
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization import attempt, built, ready
from onnxopt.quantization.built import Built
from onnxopt.quantization.placement.keep_float import has_float_layers
from onnxopt.quantization.ready import Ready
from onnxopt.target import target_of
from tests import builders

MODELS = ("gemm_mlp", "residual_cnn", "transformer_17", "nested_capture", "if_branches", "half_weights", "embedding")
SPECS = ("quantize-dynamic", "quantize-static", "quantize-static{form=qoperator}")


def builds_of(name: str, spec: str, monkeypatch: pytest.MonkeyPatch) -> list[Built]:
    """Return what a pass built and had loaded."""
    found, loadable = list[Built](), attempt.loadable

    def seen(one: Built) -> Loadable:
        found.append(one)
        return loadable(one)

    monkeypatch.setattr(attempt, "loadable", seen)
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    Pipeline(parse(spec)).run(model, context)
    return found


def graph_of(source: Loadable) -> list[str]:
    """Return the nodes of the runtime's graph."""
    _, data = session_and_graph(source, Runtime())
    nodes = onnx.load_model_from_string(data).graph.node
    return [onnx.helper.printable_node(node) for node in nodes]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", MODELS)
def test_bytes_and_graph_are_one_model(name: str, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builds_of(name, spec, monkeypatch)
    assert found
    feeds = builders.feeds_of(builders.BUILDERS[name]())
    for one in found:
        assert one.data
        assert graph_of(one.data) == graph_of(one.model)
        with_bytes, with_graph = (Session(source, Runtime()).run(feeds) for source in (one.data, one.model))
        assert [a.tobytes() for a in with_bytes] == [b.tobytes() for b in with_graph]


def test_in_the_bytes_each_reader_has_its_own_dequantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = builds_of("residual_cnn", "quantize-static", monkeypatch)
    written = onnx.load_model_from_string(one.data).graph.node
    _, data = session_and_graph(one.data, Runtime(optimization="none"))
    assert len(onnx.load_model_from_string(data).graph.node) == len(written) > len(one.model.graph)


def test_bytes_of_a_graph_that_was_changed_since_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, node, *_) = (n.name for n in builders.BUILDERS["gemm_mlp"]().graph if n.op_type == "Gemm")
    (one, *_) = builds_of("gemm_mlp", f"quantize-static{{exclude=[{node}]}}", monkeypatch)
    assert any("in_float" in name for name in one.model.graph.initializers)
    assert not one.data


def test_bytes_of_large_weights_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "IN_MEMORY_BYTES", 100)
    assert not any(one.data for one in builds_of("gemm_mlp", "quantize-static", monkeypatch))
    monkeypatch.setattr(ready, "IN_MEMORY_BYTES", 100)
    prepared = Ready(with_types(builders.BUILDERS["gemm_mlp"]()))
    prepared.proto()
    assert not prepared._data


@pytest.mark.parametrize("name", MODELS)
def test_each_protobuf_is_a_new_one_of_the_same_model(name: str) -> None:
    prepared = Ready(with_types(builders.BUILDERS[name]()))
    first = prepared.proto()
    kept = first.SerializeToString(deterministic=True)
    del first.graph.node[:]
    again = prepared.proto()
    assert again.SerializeToString(deterministic=True) == kept
    assert to_bytes(from_proto(again)) == to_bytes(from_proto(prepared.proto()))


def test_layers_in_float_are_found_before_the_graph_is_read() -> None:
    model = to_proto(builders.BUILDERS["gemm_mlp"]())
    assert has_float_layers(model.graph)
    for node in model.graph.node:
        if len(node.input) > 1:
            node.input[1] = "computed"
    assert not has_float_layers(model.graph)
