import shutil
from pathlib import Path

import pytest

from tests.cli import golden

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("help", "--help"),
        ("help_optimize", "optimize --help"),
        ("inspect", "inspect models/digits_mlp.onnx"),
        ("inspect_md", "inspect models/digits_gru.onnx --format md"),
        ("inspect_schema", "inspect models/digits_mlp.onnx --schema"),
        ("evaluate", "evaluate models/digits_mlp.onnx --data digits"),
        ("dry_run", "optimize models/digits_mlp.onnx --data digits --dry-run --target x86-vnni"),
    ],
)
def test_output_is_as_stored(cli, name, arguments):
    ended = cli(*arguments.split())
    assert ended.code == 0
    assert ended.err == ""
    golden.check(name, ended.out)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare", "compare m.onnx m.onnx --data digits --seconds 0.05"),
        ("benchmark", "benchmark m.onnx m.onnx --seconds 0.05 --batch-size 1 --batch-size 8"),
    ],
)
def test_measured_output_is_as_stored(cli, name, arguments, tmp_path, monkeypatch):
    # A short name, which no width of the figures beside it can break.
    (tmp_path / "m.onnx").write_bytes(Path("models/digits_mlp.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    ended = cli(*arguments.split())
    assert ended.code == 0
    assert ended.err == ""
    golden.check(name, ended.out, measured=True)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("apply", "apply digits_gru.onnx --passes simplify,quantize-dynamic -o small.onnx --target x86-vnni"),
        ("quantize", "quantize digits_mlp.onnx --data digits:train -o small.onnx --target x86-vnni"),
    ],
)
def test_what_was_done_and_what_was_left_is_said(cli, tmp_path, monkeypatch, name, arguments):
    monkeypatch.chdir(tmp_path)
    model = shutil.copy(ROOT / "models" / arguments.split()[1], tmp_path)
    ended = cli(*arguments.split())
    assert ended.code == 0
    assert ended.err == ""
    golden.check(name, ended.out)
    assert (tmp_path / "small.onnx").stat().st_size < Path(model).stat().st_size
