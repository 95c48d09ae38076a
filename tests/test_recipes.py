"""The two recipes of docs/recipes.md, command by command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxopt.target import detect

ROOT = Path(__file__).parents[1]
PACK = Path(os.environ.get("ONNXOPT_PACK", ROOT.parent / "shared" / "data"))
DETECTOR = PACK / "models" / "version-slim-320.onnx"
PHOTOS = PACK / "data" / "imagenet_val_227_jpeg.npz"


def commands(title: str) -> list[str]:
    section = (ROOT / "docs/recipes.md").read_text().split(f"## {title}")[1].split("\n## ")[0]
    block = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    return [line for line in block[1].splitlines() if not line.startswith("#")]


def run(line: str, folder: Path, may_miss: tuple[str, ...] = ()) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode in ((0, 1) if line.startswith(may_miss) else (0,)), f"{line}: {done.stderr}"
    return done.stdout


@pytest.mark.long
def test_a_classifier_is_pruned_distilled_quantized_and_compared(tmp_path):
    pytest.importorskip("torch", reason="the recipe trains")
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    shutil.copy(ROOT / "models/digits_resnet.onnx", tmp_path / "model.onnx")
    for line in commands("An image classifier for a phone"):
        # Without VNNI this processor saturates where the phone's does not.
        said = run(line, tmp_path, ("onnxopt compare",) if detect().reduce_range else ())
        if "--simulate" in line:
            as_on_the_phone = re.search(r"([\d.]+) % .* arm64-dotprod", said)
            assert as_on_the_phone is not None
            assert float(as_on_the_phone[1]) > 97
    sizes = [(tmp_path / name).stat().st_size for name in ("model.onnx", "distilled.onnx", "phone.onnx")]
    assert sizes[0] > 4 * sizes[1] > 6 * sizes[2]
    assert (tmp_path / "kit" / "run.py").exists()


@pytest.mark.skipif(not DETECTOR.exists(), reason="the detector and the photos are in the developer pack")
def test_a_detector_is_judged_by_its_own_detections(tmp_path):
    pytest.importorskip("PIL", reason="Pillow reads the photos")
    shutil.copy(DETECTOR, tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    with np.load(PHOTOS) as stored:
        data, offsets = stored["encoded"], stored["offsets"]
        for i in range(0, 700, 28):
            (tmp_path / "photos" / f"{i:03}.jpg").write_bytes(data[offsets[i] : offsets[i + 1]].tobytes())
    for line in commands("A detector at the edge, without labels"):
        out = run(line, tmp_path, ("onnxopt optimize",))
        if line.startswith("onnxopt compare"):
            assert "AP@[.5:.95]" in out
    assert (tmp_path / "run" / "best.onnx").exists()
