"""A model that declares a free batch and runs at one sample only works under every command that reads samples."""

from pathlib import Path

import numpy as np
import pytest

from onnxopt.measure.runtime.batches import as_it_runs
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import save
from tests import builders


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(builders.BUILDERS["runs_at_one_only"](), tmp_path / "m.onnx")[0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((80, 3, 8, 8)).astype(np.float32))
    return path


@pytest.mark.parametrize(
    "command",
    [
        "quantize m.onnx --mode auto --data data.npz -o out.onnx",
        "quantize m.onnx --mode static --data data.npz -o out.onnx",
        "apply m.onnx --passes simplify,factorize{energy=0.9} --data data.npz -o out.onnx",
        "apply m.onnx --passes distill{steps=2} --data data.npz -o out.onnx",
        "apply m.onnx --passes qat{steps=2} --data data.npz -o out.onnx",
        "apply m.onnx --passes reconstruct-blocks{epochs=0.1} --data data.npz -o out.onnx",
        "sensitivity m.onnx --data data.npz",
        "compare m.onnx m.onnx --data data.npz",
        "benchmark m.onnx --data data.npz --seconds 0.05",
    ],
)
def test_a_command_runs_it_one_sample_at_a_time(
    cli, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if any(word in command for word in ("distill", "qat", "reconstruct")):
        pytest.importorskip("torch")
    monkeypatch.chdir(model.parent)
    ended = cli(*command.split())
    assert ended.code in (0, 1), ended.err
    assert (model.parent / "out.onnx").exists() or "-o" not in command


def test_samples_keep_their_batch_size_where_the_model_takes_it() -> None:
    free, single = (builders.BUILDERS[name]() for name in ("residual_cnn", "runs_at_one_only"))
    assert as_it_runs(Session(free, Runtime()), builders.samples_of(free, batch_size=4)).batch_size == 4
    found = as_it_runs(Session(single, Runtime()), builders.samples_of(single, batch_size=4))
    assert (found.batch_size, found.fixed_batch) == (1, True)
