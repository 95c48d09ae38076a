"""Saving: the old file or the new one, whole, at every moment."""

import errno
import itertools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxopt.errors import FileError
from onnxopt.model_file import load, memory, save, sha256_of, size_bytes, to_bytes, write_manifest
from onnxopt.model_file.memory import materialize
from onnxopt.model_file.order import bodies_of
from onnxopt.model_file.save import _has, external_files
from tests import builders

OLD = b"the old file"


def small(name: str = "gemm_mlp") -> ir.Model:
    return builders.BUILDERS[name]()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every model one that is too large for protobuf."""
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 100)
    monkeypatch.setattr(memory, "LEAST_EXTERNAL_BYTES", 16)


def refused(code: str, act: Callable[[], object]) -> FileError:
    with pytest.raises(FileError) as caught:
        act()
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return caught.value


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def failing(error: BaseException, at_call: int = 1) -> Callable[..., None]:
    calls = itertools.count(1)

    def fail(*_: object, **__: object) -> None:
        if next(calls) >= at_call:
            raise error

    return fail


def test_a_saved_model_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert save(small(), path) == (path,)
    assert to_bytes(load(path)) == to_bytes(small())
    assert size_bytes(small()) == path.stat().st_size
    assert [*content(tmp_path)] == ["m.onnx"]


@pytest.mark.parametrize("name", sorted(builders.BUILDERS))
def test_no_weight_is_described_twice(name: str) -> None:
    proto = onnx.load_model_from_string(to_bytes(small(name)))
    for graph in (body for body in bodies_of(proto) if isinstance(body, onnx.GraphProto)):
        assert not {tensor.name for tensor in graph.initializer} & {value.name for value in graph.value_info}


def test_a_comment_on_a_weight_is_kept() -> None:
    model = small()
    weight = next(iter(model.graph.initializers.values()))
    weight.doc_string = "from the paper"
    (described,) = onnx.load_model_from_string(to_bytes(model)).graph.value_info[:1]
    assert (described.name, described.doc_string) == (weight.name, "from the paper")


def test_a_saved_model_looks_like_any_other_file(tmp_path: Path, large: None) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    memory.EXTERNAL_ABOVE_BYTES = 10**9
    files = [*save(small(), tmp_path / "a.onnx")]
    memory.EXTERNAL_ABOVE_BYTES = 100
    files += save(small(), tmp_path / "b.onnx")
    assert len(files) == 3
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {stat.S_IMODE(plain.stat().st_mode)}


def test_an_existing_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(OLD)
    refused("ONX502", lambda: save(small(), path))
    assert content(tmp_path) == {"m.onnx": OLD}
    save(small(), path, overwrite=True)
    assert to_bytes(load(path)) == to_bytes(small())


def test_existing_data_is_not_replaced_unasked(tmp_path: Path, large: None) -> None:
    (tmp_path / "m.onnx.data").write_bytes(OLD)
    refused("ONX502", lambda: save(small(), tmp_path / "m.onnx"))
    assert content(tmp_path) == {"m.onnx.data": OLD}


INTERRUPTIONS = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")]


@pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda e: errno.errorcode[e.errno])
@pytest.mark.parametrize("where", ["fsync", "replace", "chmod"])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: OSError
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(OLD)
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if where == "fsync" else (Path, where)), failing(error))
        found = refused("ONX503", lambda: save(small(), path, overwrite=True))
    assert content(tmp_path) == {"m.onnx": OLD}
    assert ("Free some space" in found.hint) == (error.errno == errno.ENOSPC)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(OLD)
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if where == "fsync" else (Path, where)), failing(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save(small(), path, overwrite=True)
    assert content(tmp_path) == {"m.onnx": OLD}


@pytest.mark.parametrize("where", ["no/such/folder/m.onnx", "file/m.onnx", "folder"])
def test_a_place_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "folder").mkdir()
    refused("ONX503", lambda: save(small(), tmp_path / where, overwrite=True))
    assert content(tmp_path) == {"file": OLD}


def test_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write into every folder")
    tmp_path.chmod(0o500)
    refused("ONX503", lambda: save(small(), tmp_path / "m.onnx"))
    tmp_path.chmod(0o700)
    assert content(tmp_path) == {}


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    refused("ONX502", lambda: save(small(), "/dev/full"))


@pytest.mark.parametrize(
    "name", ["gemm_mlp", "if_branches", "zipmap", "half_weights", "with_function", "with_metadata"]
)
def test_large_models_get_external_data(tmp_path: Path, large: None, name: str) -> None:
    model = small(name)
    before = to_bytes(model)
    files = save(model, tmp_path / "m.onnx")
    external = memory.weight_bytes(model) > 100
    assert [f.name for f in files] == (["m.onnx", "m.onnx.data"] if external else ["m.onnx"])
    assert [*content(tmp_path)] == [f.name for f in files]
    assert to_bytes(load(files[0])) == before
    assert to_bytes(model) == before
    if external:
        onnx.checker.check_model(str(files[0]))


def test_a_large_model_runs_from_its_files(tmp_path: Path, large: None) -> None:
    feeds = builders.feeds_of(small())
    expected = builders.run(small(), feeds)[0]
    with materialize(small()) as source:
        assert isinstance(source, str)
        onnx.checker.check_model(source)
        np.testing.assert_array_equal(builders.run(to_bytes(load(source)), feeds)[0], expected)


def test_the_extension_decides_nothing(tmp_path: Path, large: None) -> None:
    for name in ("model", "m.json", "m.textproto"):
        assert to_bytes(load(save(small(), tmp_path / name)[0])) == to_bytes(small())


@pytest.mark.parametrize("stop", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=["io", "ctrl-c"])
@pytest.mark.parametrize("rename", [1, 2])
def test_a_failure_between_the_renames_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: None, rename: int, stop: BaseException
) -> None:
    path = tmp_path / "m.onnx"
    save(small("embedding"), path)
    before = content(tmp_path)
    real, calls = Path.replace, itertools.count(1)

    def replace(self: Path, target: Path) -> Path:
        if self.parent.parent == tmp_path and next(calls) == rename:
            raise stop
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises((FileError, KeyboardInterrupt)):
            save(small(), path, overwrite=True)
    assert content(tmp_path) == before
    assert to_bytes(load(path)) == to_bytes(small("embedding"))


def test_a_crash_between_the_renames_never_mixes_two_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: None
) -> None:
    path = tmp_path / "m.onnx"
    save(small("embedding"), path)
    seen = list[bytes]()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        seen.append(to_bytes(load(path)))
        result = real(self, target)
        seen.append(to_bytes(load(path)))
        return result

    monkeypatch.setattr(Path, "replace", replace)
    save(small(), path, overwrite=True)
    old, new = to_bytes(small("embedding")), to_bytes(small())
    assert len(seen) >= 4
    assert seen == [old] * (len(seen) - 1) + [new]


def test_saving_again_leaves_no_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: None) -> None:
    path = tmp_path / "m.onnx"
    for turn in range(4):
        model = small(("gemm_mlp", "embedding")[turn % 2])
        files = save(model, path, overwrite=True)
        assert [*content(tmp_path)] == [f.name for f in files]
        assert to_bytes(load(path)) == to_bytes(model)
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10**9)
    assert save(small(), path, overwrite=True) == (path,)
    assert [*content(tmp_path)] == ["m.onnx"]


def test_data_that_the_old_model_shares_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        onnx.load_from_string(to_bytes(small())), path, save_as_external_data=True, location="all.bin", size_threshold=0
    )
    save(small("embedding"), path, overwrite=True)
    assert [*content(tmp_path)] == ["all.bin", "m.onnx"]


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_the_weights_the_model_is_read_from_are_not_overwritten(tmp_path: Path, large: None, link: str) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    source, data = save(small(), home / "m.onnx")
    model = load(source)
    target = other / "m.onnx"
    assert to_bytes(model) == to_bytes(small())
    if link == "same":
        target = source
    elif link == "symbolic":
        (other / "m.onnx.data").symlink_to(data)
    else:
        (other / "m.onnx.data").hardlink_to(data)
    before = content(tmp_path)
    refused("ONX504", lambda: save(model, target, overwrite=True))
    assert content(tmp_path) == before


def test_weights_in_subgraphs_are_not_overwritten(tmp_path: Path, large: None) -> None:
    path = tmp_path / "m.onnx"
    proto = onnx.load_from_string(to_bytes(small("loop")))
    onnx.save(proto, path, save_as_external_data=True, location="m.onnx.data", size_threshold=0, convert_attribute=True)
    model = load(path)
    onnx.save(proto, tmp_path / "copy.onnx")
    assert to_bytes(model) == to_bytes(load(tmp_path / "copy.onnx"))
    refused("ONX504", lambda: save(model, path, overwrite=True))


def test_a_model_with_external_data_is_saved_elsewhere(tmp_path: Path, large: None) -> None:
    source, _ = save(small(), tmp_path / "m.onnx")
    files = save(load(source), tmp_path / "copy.onnx")
    for file in (*tmp_path.glob("m.onnx*"),):
        file.unlink()
    assert [f.name for f in files] == ["copy.onnx", "copy.onnx.data"]
    assert to_bytes(load(files[0])) == to_bytes(small())


def test_metadata_is_kept_and_provenance_added(tmp_path: Path) -> None:
    model = small("with_metadata")
    (path,) = save(model, tmp_path / "m.onnx", provenance={"passes": "simplify", "version": "1"})
    loaded = onnx.load(path)
    props = {p.key: p.value for p in loaded.metadata_props}
    assert props == {
        "labels": '["a", "b"]',
        "author": "Zoë",
        "empty": "",
        "onnxopt.passes": "simplify",
        "onnxopt.version": "1",
    }
    assert (loaded.doc_string, loaded.model_version, loaded.domain) == ("a model", 7, "org.example")
    assert (loaded.producer_name, loaded.producer_version) == ("builders", "3.1")
    assert loaded.graph.node[0].doc_string == "the only layer"
    assert "onnxopt.passes" not in model.metadata_props


def test_denormals_are_flushed_in_the_file_only(tmp_path: Path) -> None:
    model = small("denormals")
    weight = model.graph.initializers["tiny"].const_value
    assert weight is not None
    before = weight.numpy().copy()
    (path,) = save(model, tmp_path / "m.onnx")
    saved = load(path).graph.initializers["tiny"].const_value
    assert saved is not None
    denormal = (before != 0) & (np.abs(before) < np.finfo(np.float32).tiny)
    assert denormal.sum() == 5
    np.testing.assert_array_equal(saved.numpy(), np.where(denormal, 0, before))
    np.testing.assert_array_equal(weight.numpy(), before)


def test_denormals_are_counted() -> None:
    assert memory.flush_denormals(small("denormals")) == 5
    assert memory.flush_denormals(small("gemm_mlp")) == 0


def test_the_manifest_agrees_with_sha256sum(tmp_path: Path, large: None) -> None:
    model, data = save(small(), tmp_path / "a model.onnx")
    report = tmp_path / "sub" / "report.json"
    report.parent.mkdir()
    report.write_text("{}")
    manifest = write_manifest(tmp_path, [model, report])
    names = [line.split("  ", 1)[1] for line in manifest.read_text().splitlines()]
    assert names == ["a model.onnx", "a model.onnx.data", "sub/report.json"]
    assert manifest.read_text().startswith(sha256_of(model))
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("sha256sum is not installed")
    check = [tool, "--check", "--strict", manifest.name]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_a_file_without_external_data_is_not_read_whole_to_say_so(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    save(builders.BUILDERS["gemm_mlp"](), path)
    monkeypatch.setattr(onnx, "load", None)
    assert external_files(path) == ()
    (tmp_path / "empty.onnx").touch()
    assert external_files(tmp_path / "empty.onnx") == ()


@pytest.mark.parametrize("size", [1, 3, 7, 8, 64])
def test_the_key_of_external_data_is_found_across_parts(tmp_path, monkeypatch, size):
    monkeypatch.setattr(sys.modules[_has.__module__], "_PART", size)
    path = tmp_path / "m"
    path.write_bytes(b"0123456789a" + b"location" + b"abc")
    assert _has(path, b"location")
    path.write_bytes(b"0123456789a" + b"locatio" + b"abc" + b"ocation")
    assert not _has(path, b"location")
