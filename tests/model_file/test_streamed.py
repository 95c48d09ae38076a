"""Weights that are read and written one at a time; bad files, and a disk that is full."""

import errno
import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxopt.errors import FileError, ModelError
from onnxopt.model_file import fits_protobuf, load, memory, save, size_bytes, streamed
from onnxopt.model_file.light import give_weights_back, without_large_weights
from onnxopt.model_file.streamed import Latest, array_of, checksum, write_tensors
from onnxopt.tasks.apply import apply
from onnxopt.tasks.check import check
from onnxopt.tasks.inspect import inspect
from tests import builders

LIMIT_BYTES = 1000


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file with external data, of a model that is above the limit from now on."""
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", LIMIT_BYTES)
    folder = tmp_path / "source"
    folder.mkdir()
    return save(network(), folder / "m.onnx")[0]


def network() -> ir.Model:
    net = builders.Net(1)
    x = net.node("Relu", net.node("MatMul", "x", net.weight(8, 64, name="one"), name="one"))
    net.node("MatMul", x, net.weight(64, 32, name="two"), name="two", out="y")
    return net.model([builders.ROWS], [("y", builders.F, ["batch", 32])], opset=17)


def test_a_read_of_a_file_leaves_no_mapping(large: Path) -> None:
    tensor = load(large).graph.initializers["two"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    expected = network().graph.initializers["two"].const_value
    assert expected is not None
    np.testing.assert_array_equal(array_of(tensor), expected.numpy())
    assert tensor.raw is None


def test_of_several_computations_the_latest_alone_is_kept() -> None:
    calls, latest = list[float](), Latest()

    def doubled(array: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(float(array[0]))
        return {"twice": 2 * array, "sum": array.sum(keepdims=True)}

    forms = {"twice": (ir.DataType.FLOAT, (2,)), "sum": (ir.DataType.FLOAT, (1,))}
    first, second = (latest.deferred(ir.tensor(np.array([n, 1], np.float32)), doubled, forms) for n in (3, 5))
    assert (calls, first["sum"].nbytes, first["twice"].shape) == ([], 4, ir.Shape([2]))
    assert first["twice"].numpy().tolist() == [6, 2]
    assert first["sum"].numpy().tolist() == [4]
    assert calls == [3]
    assert second["sum"].numpy().tolist() == [6]
    assert first["sum"].numpy().tolist() == [4]
    assert calls == [3, 5, 3]


def test_tensors_of_every_kind_are_written_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "CHUNK_BYTES", 100)
    rng = np.random.default_rng(0)
    arrays = {
        "floats": rng.standard_normal((40, 60)).astype(np.float32),
        "strided": rng.standard_normal((30, 50)).astype(np.float64)[::2, ::-1],
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float32),
    }
    tensors: dict[str, ir.TensorProtocol] = {name: ir.tensor(array) for name, array in arrays.items()}
    tensors["halves"] = ir.tensor(np.arange(-8, 8, dtype=np.int8), dtype=ir.DataType.INT4)
    tensors["brain"] = ir.tensor(np.arange(5, dtype=np.float32).astype(ir.DataType.BFLOAT16.numpy()))
    placed, digest = write_tensors(tensors, tmp_path / "data")
    assert digest == hashlib.sha256((tmp_path / "data").read_bytes()).hexdigest()
    for name, tensor in tensors.items():
        assert placed[name].nbytes == tensor.nbytes
        np.testing.assert_array_equal(placed[name].numpy(), tensor.numpy())
    assert placed["floats"].offset == 0
    again, _ = write_tensors(placed, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "data").read_bytes()
    assert {name: tensor.offset for name, tensor in again.items()} == {n: t.offset for n, t in placed.items()}


def test_large_tensors_begin_on_a_page(tmp_path: Path) -> None:
    tensors = {name: ir.tensor(np.full(size, 7, np.uint8)) for name, size in (("a", 10), ("b", 5000), ("c", 9))}
    placed, _ = write_tensors(tensors, tmp_path / "data")
    assert [placed[name].offset for name in tensors] == [0, 4096, 9096]


def test_weights_set_aside_come_back_as_they_were() -> None:
    model = network()
    light, weights = without_large_weights(model, 100)
    assert [v.name for v in light.graph.inputs] == ["x", "one", "two"]
    assert not light.graph.initializers
    give_weights_back(light, model, weights)
    assert memory.to_bytes(light) == memory.to_bytes(model)
    assert without_large_weights(model, 1 << 20)[1] == {}


def saved_before(folder: Path) -> dict[str, bytes]:
    save(builders.BUILDERS["gemm_mlp"](), folder / "out.onnx")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize("spec", ["quantize-weights{bits=8,method=rtn,least=64}", "quantize-dynamic", "store-float16"])
@pytest.mark.parametrize("damage", ["gone", "short"])
def test_data_that_is_lost_meanwhile_is_one_error_and_the_old_output_stays(
    spec: str, damage: str, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved_before(tmp_path)
    data = large.with_name("m.onnx.data")
    model = load(large)
    if damage == "gone":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:500])
    with pytest.raises(ModelError, match="ONX303") as caught:
        save(model, tmp_path / "out.onnx", overwrite=True)
    assert str(data) in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == old
    with pytest.raises(ModelError, match="ONX303"):
        apply(large, spec, out=tmp_path / "out.onnx", overwrite=True, target="x86-vnni")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == old


def test_an_offset_behind_the_end_of_the_file_is_refused(large: Path) -> None:
    proto = onnx.load(large, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = str(1 << 40)
    large.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="ONX303: external data is too short"):
        load(large)


def test_a_disk_that_is_full_is_one_error_and_the_old_output_stays(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, chunks = saved_before(tmp_path), streamed._chunks

    def full(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview]:
        yield next(iter(chunks(tensor)))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(streamed, "_chunks", full)
    with pytest.raises(FileError, match=r"ONX503.*No space left on device.*Free some space"):
        apply(large, "quantize-dynamic", out=tmp_path / "out.onnx", overwrite=True, target="x86-vnni")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == old
    assert {file.name for file in tmp_path.iterdir()} == {*old, "source"}


def test_a_temporary_file_that_does_not_fit_is_one_error(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory, "write_tensors", full)
    with (
        pytest.raises(FileError, match=r"ONX503.*No space left on device.*TMPDIR"),
        memory.materialize(load(large)),
    ):
        pass


def test_a_file_that_the_system_cuts_off_is_one_error_and_the_old_output_stays(large: Path, tmp_path: Path) -> None:
    old = saved_before(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = load(large)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(FileError, match="ONX503"):
            save(model, tmp_path / "out.onnx", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == old


def test_a_result_is_not_written_over_the_weights_it_is_computed_from(large: Path) -> None:
    from onnxopt.catalog import parse
    from onnxopt.pipeline import Context, Pipeline
    from onnxopt.target import target_of

    made = Pipeline(parse("quantize-weights{method=rtn,least=64}")).run(load(large), Context(target_of("x86-vnni")))
    with pytest.raises(FileError, match="ONX504"):
        save(made.model, large, overwrite=True)


def test_check_and_inspect_look_at_a_model_above_the_limit(large: Path) -> None:
    model = load(large)
    assert not fits_protobuf(model)
    assert check(large).passed
    assert inspect(large).data["parameters"] == 8 * 64 + 64 * 32
    assert size_bytes(model) == 4 * (8 * 64 + 64 * 32)


def test_check_compares_the_weights_with_their_checksum(large: Path) -> None:
    data = large.with_name("m.onnx.data")
    changed = bytearray(data.read_bytes())
    changed[100] ^= 1
    data.write_bytes(changed)
    (finding,) = [f for found in check(large).findings.values() for f in found if f.code == "CHK103"]
    assert "checksum" in finding.detail


def test_denormal_weights_of_a_large_model_are_flushed_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10)
    model = builders.BUILDERS["denormals"]()
    file = save(model, tmp_path / "m.onnx")[0]
    written = load(file)
    assert memory.flush_denormals(model.clone()) == 5
    assert memory.flush_denormals(written) == 0


def test_tensors_have_one_checksum_only_where_they_are_equal() -> None:
    """Of long texts numpy writes only the ends."""
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    texts = [b"same"] * 2000
    other = [*texts[:1000], b"other", *texts[1001:]]
    tensors = [
        ir.tensor(numbers),
        ir.tensor(numbers.reshape(4, 3)),
        ir.tensor(numbers.view(np.int32)),
        ir.tensor(numbers.copy()[:, ::-1]),
        ir.tensor(np.zeros((0, 3), np.float32)),
        ir.tensor(np.array(3, np.int64)),
        ir.tensor(np.array([1, -2, 3], np.int8), dtype=ir.DataType.INT4),
        ir.StringTensor(texts, shape=ir.Shape([2000])),
        ir.StringTensor(other, shape=ir.Shape([2000])),
        ir.StringTensor([b"ab", b"c"], shape=ir.Shape([2])),
        ir.StringTensor([b"a", b"bc"], shape=ir.Shape([2])),
    ]
    checksums = [checksum(tensor) for tensor in tensors]
    assert len(set(checksums)) == len(tensors)
    assert [checksum(ir.from_proto(ir.to_proto(tensor))) for tensor in tensors] == checksums
