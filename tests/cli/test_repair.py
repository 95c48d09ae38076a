import json

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.model_file import to_bytes
from onnxopt.target import TARGETS, detect
from onnxopt.tasks import check
from tests.builders import hard_swish_9
from tests.repairs.quantized import qdq_cnn


@pytest.fixture
def signed(tmp_path):
    path = tmp_path / "signed.onnx"
    path.write_bytes(to_bytes(qdq_cnn(zero=-128, branch=True)))
    return path


def test_what_was_found_is_printed_and_the_exit_code_is_0(cli, signed, tmp_path) -> None:
    out = tmp_path / "mended.onnx"
    ended = cli("repair", signed, "-o", out, "--target", "arm64-dotprod", "--format", "json")
    assert ended.code == 0
    assert "CHK401" not in [row["code"] for row in json.loads(ended.out)["repairs"]]
    out.unlink(missing_ok=True)
    ended = cli("repair", signed, "-o", out, "--seconds", 0.02, "--target", "x86-vnni", "--format", "json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert found["repairs"][0]["code"] == "CHK401"
    assert found["repairs"][0]["change"] == 0
    assert bool(found["files"]) == out.exists() == bool(found["kept"])


def test_an_existing_output_is_refused(cli, signed, tmp_path) -> None:
    out = tmp_path / "there.onnx"
    out.touch()
    ended = cli("repair", signed, "-o", out)
    assert ended.code == 5
    assert ended.err.startswith("ONX502")


@pytest.mark.skipif(detect().activation_type != "uint8", reason="signed activations are slow on x86 only")
def test_check_names_the_fault_and_the_command(cli, signed, monkeypatch) -> None:
    # Without VNNI its 8-bit weights would saturate, so the file is left as it is.
    monkeypatch.setattr(check, "detect", lambda: TARGETS["x86-vnni"])
    ended = cli("check", signed, "--format", "json")
    (model,) = json.loads(ended.out)["models"]
    found = {finding["code"]: finding for finding in model["findings"]}
    assert found["CHK401"]["level"] == "warning"
    assert "`repair` mends it" in found["CHK401"]["meaning"]
    assert found["CHK401"]["where"]


def test_quantize_points_to_repair(cli, signed, tmp_path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32))
    for mode in ("static", "dynamic", "auto"):
        out = tmp_path / f"{mode}.onnx"
        ended = cli("quantize", signed, "-o", out, "--data", tmp_path / "data.npz", "--mode", mode, "--dry-run")
        assert ended.code == 0
        assert "onnxopt repair" in " ".join(ended.out.split())


def test_made_up_inputs_have_a_size_that_is_stated(cli, tmp_path) -> None:
    path = tmp_path / "free.onnx"
    model = hard_swish_9()
    model.graph.inputs[0].shape = ir.Shape(["n", 3, "h", "w"])
    path.write_bytes(to_bytes(model))
    for size, shape in (((), "1x3x224x224"), (("--size", 32), "1x3x32x32")):
        ended = cli("repair", path, "-o", tmp_path / "out.onnx", "--dry-run", "--seconds", 0.02, *size)
        assert f"times are those of synthetic inputs (x {shape})" in " ".join(ended.out.split()), ended.err
