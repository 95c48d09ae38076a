"""Models serialized in pieces: the same bytes as at once, without the weights in memory a second time."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.model_file import light, memory, serialized
from onnxopt.model_file.proto import to_proto
from onnxopt.model_file.serialized import digest, pieces, serialized_size, to_bytes
from tests import builders

MIB = 1 << 20


def at_once(model: ir.Model) -> bytes:
    return to_proto(model).SerializeToString(deterministic=True)


def wide(layers: int) -> ir.Model:
    """Return a stack of products with weights of 4 MiB each, read from a file's bytes as users' models are."""
    net = builders.Net(0)
    x = "x"
    for _ in range(layers):
        x = net.node("MatMul", x, net.weight(1024, 1024))
    graph = onnx.helper.make_graph(
        [*net.nodes, onnx.helper.make_node("Relu", [x], ["y"], name="last")],
        "wide",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 1024])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 1024])],
        net.weights,
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return model_file.from_bytes(made.SerializeToString())


@pytest.mark.parametrize("name", list(builders.BUILDERS))
def test_joined_pieces_are_the_bytes_of_the_protobuf(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialized, "LARGE_BYTES", 16)
    model = builders.BUILDERS[name]()
    before = at_once(model)
    found = list(pieces(model))
    assert b"".join(found) == before == to_bytes(model) == at_once(model)
    assert digest(model) == hashlib.sha256(before).hexdigest()
    assert serialized_size(model) == len(before)


def test_weights_of_every_kind_are_written_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialized, "LARGE_BYTES", 16)
    model = wide(1)
    first = next(iter(model.graph.initializers.values()))
    rng = np.random.default_rng(0)
    kinds = {
        "plain": ir.tensor(rng.standard_normal((3, 200)).astype(np.float32), doc_string="noted"),
        "packed": ir.tensor(rng.integers(-8, 8, (5, 41)).astype(np.int8), dtype=ir.DataType.INT4),
        "halves": ir.tensor(rng.standard_normal((7, 64)).astype(np.float16)),
        "numbers": ir.serde.deserialize_tensor(
            onnx.helper.make_tensor("numbers", onnx.TensorProto.FLOAT, [100], rng.standard_normal(100))
        ),
    }
    kinds["plain"].metadata_props["key"] = "text"
    for name, tensor in kinds.items():
        value = ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
        model.graph.register_initializer(value)
    assert first.const_value is not None
    assert to_bytes(model) == at_once(model)
    memory.write_with_data(model, tmp_path / "m.onnx", "m.data")
    outside = model_file.load(tmp_path / "m.onnx")
    assert any(isinstance(v.const_value, ir.ExternalTensor) for v in outside.graph.initializers.values())
    assert to_bytes(outside) == at_once(outside)


def test_writing_a_model_takes_the_memory_of_two_of_its_weights() -> None:
    model = wide(8)
    tracemalloc.start()  # Protobuf's own memory is outside: see the next test
    for piece in pieces(model):
        assert len(piece) <= 4 * MIB + 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4 * MIB


def test_no_message_holds_more_than_one_large_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = list[int]()

    def watched(model: ir.Model) -> onnx.ModelProto:
        proto = to_proto(model)
        converted.append(proto.ByteSize())
        return proto

    for module in (serialized, light):
        monkeypatch.setattr(module, "to_proto", watched)
    model = wide(8)
    list(pieces(model))
    model_file.check(model)
    assert len(converted) == 2
    assert max(converted) < MIB


def test_the_runtime_gets_a_large_model_as_a_file_and_a_small_one_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide(1)
    with model_file.materialize(model) as small:
        assert small == to_bytes(model)
    monkeypatch.setattr(memory, "IN_MEMORY_BYTES", MIB)
    with model_file.materialize(model, mapped=False) as large:
        assert isinstance(large, str)
        assert Path(large).read_bytes() == to_bytes(model)
    assert not Path(large).exists()


def test_the_runtime_maps_the_large_weights_of_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide(1)
    monkeypatch.setattr(memory, "IN_MEMORY_BYTES", MIB)
    with model_file.materialize(model) as source:
        assert isinstance(source, str)
        assert Path(source).stat().st_size < memory.LEAST_MAPPED_BYTES
        outside = onnx.load(source, load_external_data=False).graph.initializer
        assert [w.name for w in outside if w.external_data] == list(serialized.large_weights(model))
        assert to_bytes(model_file.load(source)) == to_bytes(model)
        # A checksum that nobody compares takes half of the time.
        assert not onnx.load(source, load_external_data=False).metadata_props
    assert not Path(source).exists()


def test_the_size_is_known_without_the_numbers_of_large_weights() -> None:
    class Unread:
        shape = (MIB,)

        def __array__(self, *_: object) -> np.ndarray:
            raise AssertionError("the numbers were read")

    model = wide(1)
    value = next(iter(model.graph.initializers.values()))
    assert value.const_value is not None
    assert model_file.size_bytes(model) == len(to_bytes(model))
    shape = value.const_value.shape
    value.const_value = ir.Tensor(Unread(), dtype=ir.DataType.FLOAT, shape=ir.Shape(shape.numpy()), name=value.name)
    size = model_file.size_bytes(model)
    value.const_value = ir.tensor(np.zeros(tuple(shape.numpy()), np.float32), name=value.name)
    assert size == len(to_bytes(model))
