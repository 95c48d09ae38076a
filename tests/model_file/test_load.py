"""Every way a file can be wrong gives its own code, in one line, and never an exception of a library."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import FileError, OnnxoptError
from onnxopt.model_file import load, signature_of, to_bytes, to_proto
from tests import builders


def proto_of(name: str = "residual_cnn") -> onnx.ModelProto:
    return to_proto(builders.BUILDERS[name]())


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def external(folder: Path, **changes: str | None) -> Path:
    """Write a model with external data, whose references are then changed; None removes an entry."""
    path = folder / "model.onnx"
    proto = proto_of("gemm_mlp")
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        entries = {e.key: e.value for e in tensor.external_data} | changes
        del tensor.external_data[:]
        for key, value in entries.items():
            if value is not None:
                tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def refused(path: Path | str, code: str) -> OnnxoptError:
    with pytest.raises(OnnxoptError) as caught:
        load(path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert caught.value.where
    return caught.value


def error_of(path: Path) -> OnnxoptError | None:
    """Return the error of ours that loading ends with; any other passes through."""
    try:
        load(path)
    except OnnxoptError as error:
        return error
    return None


def test_a_missing_file(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path / "no.onnx", "ONX501"), FileError)


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "ONX505")


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(onnx, "load", deny)
    assert "Permission denied" in str(refused(write(tmp_path / "m.onnx", b"x"), "ONX505"))


NOT_MODELS: dict[str, bytes] = {
    "empty": b"",
    "text": b"This is no model, it is a letter.\nWith two lines.\n",
    "json": b'{"ir_version": 8, "graph": {}}',
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zeros": bytes(1000),
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "a tensor": onnx.numpy_helper.from_array(np.zeros(3, np.float32)).SerializeToString(),
    "no graph": onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 13)]).SerializeToString(),
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_bytes_that_are_no_model(tmp_path: Path, name: str) -> None:
    refused(write(tmp_path / "m.onnx", NOT_MODELS[name]), "ONX301")


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes(tmp_path: Path, seed: int) -> None:
    noise = np.random.RandomState(seed).bytes(1 + 37 * seed)
    refused(write(tmp_path / "m.onnx", noise), "ONX301")


@pytest.mark.parametrize("name", ["residual_cnn", "if_branches", "zipmap", "with_metadata"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    proto = proto_of(name)
    # Metadata after the graph may be lost without a trace; whatever stands before its end may not.
    del proto.metadata_props[:], proto.functions[:]
    whole = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    ends = {*range(0, len(whole), max(1, len(whole) // 150)), *range(len(whole) - 30, len(whole))}
    errors = {end: error_of(write(path, whole[:end])) for end in ends}
    accepted = [end for end, error in errors.items() if error is None]
    # ONX305: the end lay between two imports of operator sets.
    assert {error.code for error in errors.values() if error} <= {"ONX301", "ONX302", "ONX305"}
    assert not any("\n" in str(error) for error in errors.values())
    # Cut between two imports, the file is a whole model of another operator set.
    assert all(end > len(whole) - 30 for end in accepted)
    assert len(accepted) <= max(0, len(proto.opset_import) - 1)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_give_a_model_or_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    data = bytearray(to_bytes(builders.BUILDERS["if_branches"]()))
    rng = np.random.RandomState(seed)
    for position in rng.randint(0, len(data), 6):
        data[position] = rng.randint(256)
    error = error_of(write(tmp_path / "m.onnx", bytes(data)))
    assert error is None or error.code.startswith("ONX3")
    assert "\n" not in str(error)


def test_no_operator_set_is_imported(tmp_path: Path) -> None:
    proto = proto_of()
    del proto.opset_import[:]
    refused(write(tmp_path / "m.onnx", proto.SerializeToString()), "ONX301")


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_an_opset_too_old_or_too_new(tmp_path: Path, opset: int) -> None:
    proto = proto_of()
    proto.opset_import[0].version = opset
    error = refused(write(tmp_path / "m.onnx", proto.SerializeToString()), "ONX302")
    assert str(opset) in error.why


@pytest.mark.parametrize("version", [0, 2])
def test_an_ir_version_too_old(tmp_path: Path, version: int) -> None:
    proto = proto_of()
    proto.ir_version = version
    refused(write(tmp_path / "m.onnx", proto.SerializeToString()), "ONX302")


def test_external_data_stays_on_the_disk(tmp_path: Path) -> None:
    model = load(external(tmp_path))
    assert all(isinstance(v.const_value, ir.ExternalTensor) for v in model.graph.initializers.values())
    assert to_bytes(model) == to_bytes(builders.BUILDERS["gemm_mlp"]())


@pytest.mark.parametrize("location", ["", "no.bin", "folder", "folder/no.bin"])
def test_external_data_that_is_missing(tmp_path: Path, location: str) -> None:
    (tmp_path / "folder").mkdir()
    assert "missing" in refused(external(tmp_path, location=location), "ONX303").what


@pytest.mark.parametrize("location", ["../weights.bin", "folder/../../weights.bin", "/etc/passwd"])
def test_external_data_outside_the_folder_of_the_model(tmp_path: Path, location: str) -> None:
    assert "outside" in refused(external(tmp_path, location=location), "ONX303").what


@pytest.mark.parametrize("length", [None, "given"])
def test_external_data_that_is_too_short(tmp_path: Path, length: str | None) -> None:
    path = external(tmp_path) if length else external(tmp_path, length=None)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:-1])
    assert "too short" in refused(path, "ONX303").what


@pytest.mark.parametrize("key", ["offset", "length"])
def test_external_data_with_a_reference_that_is_no_number(tmp_path: Path, key: str) -> None:
    refused(external(tmp_path, **{key: "many"}), "ONX301")


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_external_data_that_links_out_of_the_folder(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path, data = external(folder), folder / "weights.bin"
    data.rename(tmp_path / "blob")
    if kind == "symbolic":
        data.symlink_to(tmp_path / "blob")
    else:
        data.hardlink_to(tmp_path / "blob")
    assert "link" in refused(path, "ONX303").what


def test_external_data_through_a_symbolic_link(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").rename(tmp_path / "blob")
    (tmp_path / "weights.bin").symlink_to(tmp_path / "blob")
    assert to_bytes(load(path)) == to_bytes(builders.BUILDERS["gemm_mlp"]())


def _everywhere_external(name: str, folder: Path) -> Path:
    """Write a model all of whose tensors are external, those in attributes and subgraphs included."""
    path = folder / "model.onnx"
    onnx.save(
        proto_of(name), path, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True
    )
    return path


@pytest.mark.parametrize("name", ["constant_nodes", "if_branches", "loop"])
def test_external_tensors_in_attributes_and_subgraphs(tmp_path: Path, name: str) -> None:
    model = load(_everywhere_external(name, tmp_path))
    feeds = builders.feeds_of(model)
    expected = builders.run(builders.BUILDERS[name](), feeds)
    np.testing.assert_array_equal(builders.run(to_bytes(model), feeds)[0], expected[0])
    (tmp_path / "w.bin").write_bytes(b"")
    refused(tmp_path / "model.onnx", "ONX303")


@pytest.mark.parametrize("make", builders.BUILDERS.values(), ids=builders.BUILDERS)
def test_every_model_survives_a_round_trip(tmp_path: Path, make: Callable[[], ir.Model]) -> None:
    model = make()
    loaded = load(write(tmp_path / "m.onnx", to_bytes(model)))
    assert to_bytes(loaded) == to_bytes(model)
    assert signature_of(loaded) == signature_of(model)


def test_a_text_path_will_do(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", to_bytes(builders.BUILDERS["gru"]()))
    assert signature_of(load(str(path))).inputs[0].name == "x"


def test_map_typed_outputs_keep_their_type() -> None:
    proto = to_proto(builders.BUILDERS["zipmap"]())
    kind = proto.graph.output[1].type.sequence_type.elem_type.map_type
    assert (kind.key_type, kind.value_type.tensor_type.elem_type) == (TensorProto.INT64, TensorProto.FLOAT)
    assert not proto.graph.output[1].metadata_props


def test_clones_share_tensors() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    other = model.clone()
    assert other.graph is not model.graph
    for name, value in model.graph.initializers.items():
        assert other.graph.initializers[name].const_value is value.const_value
