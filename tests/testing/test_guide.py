"""The guide to writing a pass is followed to the letter: its files are written, installed and used."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-pass.md"
BLOCK = re.compile(r"```(?:python|toml)\n# (\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the folder of the guide's package, and an environment in which it is installed."""
    source, site = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    for name, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (source / "onnxopt_relu" / "__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    package = Path(__file__).parents[2]
    return source, {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(package)])}


def run(environment: dict[str, str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_installed_package_adds_its_pass(installed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    _, environment = installed
    described = run(environment, "onnxopt", "passes", "max-to-relu", cwd=tmp_path)
    assert described.returncode == 0, described.stderr
    assert "Replace Max(x, 0) by Relu(x)" in described.stdout
    assert "names of nodes that stay" in " ".join(described.stdout.split()).replace("Names", "names")


@pytest.mark.slow
def test_the_test_of_the_guide_passes(installed: tuple[Path, dict[str, str]]) -> None:
    source, environment = installed
    tested = run(environment, "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=source)
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
