"""The tools of the server read and write below one folder only, and replace nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt.errors import FileError, OnnxoptError, UsageError
from onnxopt.tasks.served.root import Root
from onnxopt.tasks.served.tools import ReadTools, WriteTools

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    shutil.copy(MODELS / "digits_mlp.onnx", folder / "m.onnx")
    x = np.random.default_rng(0).random((40, 64), dtype=np.float32)
    np.savez(folder / "s.npz", x=x, y=np.arange(40) % 10)
    return folder


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../outside", "link", "link/below", "link/../x", "\0"]
)
def test_no_path_leads_out(root, name):
    (root / "link").symlink_to(root.parent)
    with pytest.raises(UsageError, match="ONX101"):
        Root(root).path(name)


def test_what_lies_inside_is_found_by_every_name(root):
    (root / "alias.onnx").symlink_to("m.onnx")
    inside = Root(root)
    assert inside.path("m.onnx") == inside.path(str(root / "m.onnx")) == inside.path("alias.onnx")
    assert inside.samples("random:4") == "random:4"
    assert inside.samples("s.npz") == root / "s.npz"
    with pytest.raises(FileError, match="ONX501"):
        Root(root / "m.onnx")


def test_models_are_described_checked_and_compared(root):
    tools = ReadTools(Root(root))
    onnxopt.quantize(root / "m.onnx", out=root / "q.onnx", mode="dynamic")
    assert tools.inspect("m.onnx")["inputs"][0]["name"] == "X"
    assert tools.check("m.onnx")["passed"] is True
    found = tools.compare("m.onnx", "q.onnx", "s.npz", max_drop="99pp", seconds=0.05)
    assert found["within_budget"] is True
    assert not hasattr(tools, "optimize")


@pytest.mark.parametrize("tool", ["inspect", "check", "compare", "optimize", "repair"])
def test_every_argument_of_a_path_is_held_to_the_root(root, tool):
    shutil.copy(root / "m.onnx", root.parent / "secret.onnx")
    shutil.copy(root / "s.npz", root.parent / "secret.npz")
    inside = {"model": "m.onnx", "other": "m.onnx", "data": "s.npz", "out": "new"}
    outside = {"model": "../secret.onnx", "other": "../secret.onnx", "data": "../secret.npz", "out": "../new"}
    wants = {"compare": ("model", "other", "data"), "optimize": ("model", "data", "out"), "repair": ("model", "out")}
    names = wants.get(tool, ("model",))
    for name in names:
        given = {**{key: inside[key] for key in names}, name: outside[name]}
        with pytest.raises(UsageError, match="ONX101: the path lies outside the root"):
            getattr(WriteTools(Root(root)), tool)(**given)
    assert sorted(path.name for path in root.parent.iterdir()) == ["root", "secret.npz", "secret.onnx"]


def test_a_search_writes_a_new_folder_and_replaces_none(root):
    tools = WriteTools(Root(root))
    found = tools.optimize("m.onnx", "s.npz", "run", time_limit=1)
    assert Path(found["best"]).is_file()
    assert found["won"] == (found["status"] == "won")
    assert "| candidate |" in found["summary"]
    with pytest.raises(FileError, match="ONX502"):
        tools.optimize("m.onnx", "s.npz", "run", time_limit=1)


def test_a_repair_writes_a_new_file_and_replaces_none(root):
    onnxopt.quantize(root / "m.onnx", out=root / "q.onnx", mode="dynamic")
    tools = WriteTools(Root(root))
    assert tools.repair("q.onnx", "new.onnx", seconds=0.02)["target"]
    before = (root / "m.onnx").read_bytes()
    with pytest.raises(FileError, match="ONX502"):
        tools.repair("q.onnx", "m.onnx", seconds=0.02)
    assert (root / "m.onnx").read_bytes() == before


def test_a_damaged_model_is_one_error(root):
    (root / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(OnnxoptError, match="ONX301"):
        ReadTools(Root(root)).inspect("bad.onnx")
    assert ReadTools(Root(root)).check("bad.onnx")["passed"] is False
