"""The documentation is built without a warning, and its commands are run."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from onnxopt import available_passes

ROOT = Path(__file__).parents[1]
PAGES = ("quickstart", "calibration", "arm")
MAY_FIND_NOTHING = ("onnxopt optimize", "onnxopt compare", "onnxopt evaluate")
"""Exit code 1 of these says that a limit was not met, which depends on the machine."""


def test_it_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="Sphinx builds the documentation")
    pytest.importorskip("myst_parser", reason="MyST reads it")
    pytest.importorskip("furo", reason="its theme")
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs, ignore=shutil.ignore_patterns("_build", "reference"))
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        str(docs),
        str(tmp_path / "html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html/reference/passes.html").read_text()
    assert "fuse-attention" in page
    assert (tmp_path / "html/reference/commands.html").read_text().count("Usage: onnxopt") > 15


def _rooms_of_the_page() -> list[tuple[list[str], str]]:
    """Return the rooms of each row, and the row."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    return [(re.findall(r"`([^`]+)`", row.split("|")[1]), row) for row in rows]


def test_the_architecture_has_every_room_and_no_other():
    package = ROOT / "onnxopt"
    folders = {p.parent.relative_to(package).as_posix() for p in package.rglob("*.py")} - {"."}
    tree = {f"{folder}/" for folder in folders} | {p.name for p in package.glob("*.py")}
    rows = _rooms_of_the_page()
    own = {room for rooms, _ in rows for room in rooms}
    named_above = {f"{room}{name}/" for rooms, row in rows for room in rooms for name in re.findall(r"`(\w+)`", row)}
    assert own <= tree
    assert tree <= own | named_above


def test_the_rooms_are_in_the_order_of_their_imports():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [layer.removeprefix("onnxopt.") for layer in contracts["contracts"][0]["layers"]]
    shown = [re.split(r"[/.]", room)[0] for rooms, _ in _rooms_of_the_page() for room in rooms]
    assert list(dict.fromkeys(room for room in shown if not room.startswith("__"))) == layers[1:]


def test_every_page_is_in_a_table_of_contents():
    named = set(re.findall(r"^([\w/-]+)$", (ROOT / "docs/index.md").read_text(), re.MULTILINE))
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages <= named
    assert {name for name in named if not name.startswith("reference/")} <= pages


def test_every_pass_has_its_line():
    lines = re.findall(r"^\| \[`([\w-]+)`\]", (ROOT / "docs/passes.md").read_text(), re.MULTILINE)
    assert sorted(lines) == sorted(available_passes())


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder as a user may have it: a model, arrays, and pictures by class."""
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures")
    digits = pytest.importorskip("sklearn.datasets", reason="scikit-learn has the digits").load_digits()
    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(ROOT / "models/digits_resnet.onnx", folder / "model.onnx")
    images, labels = digits.images[1000:1160], digits.target[1000:1160]
    for number, (picture, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "photos" / f"{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.round(255 * (picture / 32 + 0.5)).astype(np.uint8)).save(path)
    arrays = (images[:, None] / 16).astype(np.float32)
    np.savez(folder / "samples.npz", image=arrays, y=labels)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_the_page_works(page, desk):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert lines
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in lines:
        done = subprocess.run(
            line, shell=True, cwd=desk, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode in ((0, 1) if line.startswith(MAY_FIND_NOTHING) else (0,)), f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr
