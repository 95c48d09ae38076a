"""The folder of a run: best.onnx without passes is the baseline."""

from pathlib import Path

import onnxruntime

from onnxopt import model_file
from onnxopt.run.folder import RunFolder
from tests.hostile.model_faults import mlp


def saved(folder: Path, data: bytes) -> Path:
    """Return best.onnx of a run that kept the baseline."""
    original = folder / "model.onnx"
    original.write_bytes(data)
    run = RunFolder(folder / "run", overwrite=False, resume=False)
    run.begin(len(data))
    try:
        (best,) = run.save_best(model_file.load(original), (), original)
    finally:
        run.release()
    return best


def test_a_baseline_is_copied_byte_by_byte(tmp_path: Path) -> None:
    data = mlp().SerializeToString()
    assert saved(tmp_path, data).read_bytes() == data


def test_a_baseline_that_only_its_normal_form_makes_loadable_is_written_in_that_form(tmp_path: Path) -> None:
    model = mlp()
    model.graph.output[0].type.tensor_type.elem_type = 0
    best = saved(tmp_path, model.SerializeToString())
    onnxruntime.InferenceSession(best, providers=["CPUExecutionProvider"])
