"""Weights of a search lie on disk, with the same numbers and the same bytes of the file."""

import os
import tempfile

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.graph.edit import add_weight
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import held, keep_on_disk
from onnxopt.model_file.proto import weights
from onnxopt.model_file.streamed import Latest
from tests import builders

LARGE = 2000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "IN_MEMORY_BYTES", LARGE)
    monkeypatch.setattr(held, "LEAST_STORED_BYTES", LARGE)


def network() -> ir.Model:
    """Return a model with large and small weights of several types, one tensor of a node, and a body."""
    rng, net = np.random.default_rng(0), builders.Net(0)
    x = net.node("MatMul", "x", net.weight(8, 64, name="one"))
    half = net.const(rng.standard_normal((64, 32)).astype(np.float16), name="half")
    x = net.node("MatMul", x, net.node("Cast", half, to=onnx.TensorProto.FLOAT))
    taken = net.const(rng.integers(0, 32, 1200).astype(np.int64), name="taken")
    x = net.node("Add", net.node("Gather", x, taken, axis=1), net.weight(1200, name="bias"))
    x = net.node("Mul", x, net.const(np.float32([3]), name="three"))
    value = onnx.numpy_helper.from_array(np.float32([2]), "two")
    net.node("Mul", x, net.node("Constant", value=value), out="y")
    model = net.model([builders.ROWS], [("y", builders.F, ["batch", 1200])], opset=17)
    return model_file.from_bytes(model_file.to_bytes(model))


def in_memory(model: ir.Model) -> list[str]:
    """Return the names of the large tensors that memory holds."""
    return [t.name or "" for t in weights(model) if t.nbytes >= LARGE and not _is_stored(t)]


def _is_stored(tensor: ir.TensorProtocol) -> bool:
    return isinstance(tensor, held._Stored)


def test_the_same_model_lies_on_disk() -> None:
    model = network()
    before = {name: np.array(v.const_value.numpy()) for name, v in model.graph.initializers.items() if v.const_value}
    digest, size, feeds = model_file.digest(model), model_file.size_bytes(model), {"x": np.ones((2, 8), np.float32)}
    expected = Session(model, Runtime()).run(feeds)
    assert set(in_memory(model)) == {"one", "half", "taken", "bias"}
    assert keep_on_disk(model) is model
    assert in_memory(model) == []
    assert (model_file.digest(model), model_file.size_bytes(model)) == (digest, size)
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        array = value.const_value.numpy()
        np.testing.assert_array_equal(array, before[name])
        assert array.dtype == before[name].dtype
        np.testing.assert_array_equal(np.asarray(value.const_value), before[name])
    for one, other in zip(expected, Session(model, Runtime()).run(feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_that_are_computed_when_they_are_read_are_computed_once() -> None:
    calls, latest, model = list[str](), Latest(), network()

    def halves(array: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(str(array.shape))
        return {"half": array / 2, "most": array.max(keepdims=True)}

    forms = {"half": (ir.DataType.FLOAT, (64,)), "most": (ir.DataType.FLOAT, (1,))}
    for number in range(2):
        made = latest.deferred(ir.tensor(np.full(64, number + 1, np.float32)), halves, forms)
        for name, tensor in made.items():
            add_weight(model.graph, f"{name}{number}", tensor)
    keep_on_disk(model)
    read = [model_file.to_bytes(model) for _ in range(2)]
    assert read[0] == read[1]
    assert len(calls) == 2
    found = [(n, float(model.graph.initializers[n].const_value.numpy().max())) for n in ("half0", "most0", "most1")]  # type: ignore[union-attr]
    assert found == [("half0", 0.5), ("most0", 1.0), ("most1", 2.0)]


def test_no_small_tensor_holds_the_message_with_all_weights() -> None:
    model = network()
    before = small_tensors(model)
    assert set(before) == {"two", "three"}
    keep_on_disk(model)
    after = small_tensors(model)
    assert set(after) == set(before)
    assert all(after[name].raw is not tensor.raw for name, tensor in before.items())


def small_tensors(model: ir.Model) -> dict[str, ir.serde.TensorProtoTensor]:
    """Return the tensors that stay in memory: those of weights and of attributes."""
    attributes = (a for node in model.graph for a in node.attributes.values() if a.type is ir.AttributeType.TENSOR)
    every = [*weights(model), *(attribute.value for attribute in attributes)]
    return {t.name or "": t for t in every if isinstance(t, ir.serde.TensorProtoTensor) and t.nbytes < LARGE}


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_kind_of_graph_keeps_its_bytes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(held, "IN_MEMORY_BYTES", -1)
    monkeypatch.setattr(held, "LEAST_STORED_BYTES", 1)
    model = model_file.from_bytes(model_file.to_bytes(builders.BUILDERS[name]()))
    before = model_file.to_bytes(model)
    assert model_file.to_bytes(keep_on_disk(model)) == before


def test_a_file_has_the_same_bytes_from_disk_and_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = model_file.to_proto(network())
    for tensor in proto.graph.initializer:  # as some exporters write it
        tensor.data_location, tensor.doc_string = onnx.TensorProto.DEFAULT, ""
    plain, stated = model_file.from_proto(proto), model_file.from_proto(proto)
    assert model_file.to_bytes(keep_on_disk(stated)) == model_file.to_bytes(plain)
    assert in_memory(stated) == []
    # In a form that cannot be kept it stays in memory.
    value = plain.graph.initializers["one"]
    assert isinstance(value.const_value, ir.serde.TensorProtoTensor)
    value.const_value.raw.data_location = onnx.TensorProto.DEFAULT
    before = model_file.to_bytes(plain)
    assert model_file.to_bytes(keep_on_disk(plain)) == before
    assert in_memory(plain) == ["one"]


def test_numbers_cannot_be_changed_and_copies_share_them() -> None:
    model = keep_on_disk(network())
    copy = model.clone()
    one = copy.graph.initializers["one"].const_value
    assert one is model.graph.initializers["one"].const_value
    assert one is not None
    with pytest.raises(ValueError, match="read-only"):
        one.numpy()[:] = 0
    again = keep_on_disk(copy)
    assert again.graph.initializers["one"].const_value is one


def test_without_room_all_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    model = network()
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert set(in_memory(keep_on_disk(model))) == {"one", "half", "taken", "bias"}


def test_small_models_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "IN_MEMORY_BYTES", 1 << 30)
    assert set(in_memory(keep_on_disk(network()))) == {"one", "half", "taken", "bias"}


@pytest.mark.skipif(not hasattr(os, "pread"), reason="processes do not fork here")
def test_reading_moves_no_position_that_a_forked_process_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read other numbers without an error where both read at once."""
    file, real, asked = held._WeightFile(), os.pread, list[int]()

    def short(descriptor: int, size: int, place: int) -> bytes:
        asked.append(size)
        return real(descriptor, min(size, 1000), place)

    data = np.random.default_rng(0).bytes(2500)
    start = file.add(b"before")
    place = file.add(data)
    file.flush()
    position = file._file.tell()
    assert file.read(place, len(data)) == data
    assert file.read(start, 6) == b"before"
    assert file._file.tell() == position
    monkeypatch.setattr(os, "pread", short)
    assert file.read(place, len(data)) == data
    assert asked == [2500, 1500, 500]
