"""Every example of docs/export.md is run where its framework is installed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs/export.md"
NEEDS = {
    "torch": ("torch", "onnxscript"),
    "Keras 3": ("keras",),
    "TensorFlow: SavedModel and TFLite": ("tensorflow", "tf2onnx"),
    "scikit-learn": ("sklearn", "skl2onnx"),
    "XGBoost and LightGBM": ("xgboost", "lightgbm", "onnxmltools"),
    "JAX and Flax": ("flax", "jax2onnx"),
    "Paddle": ("paddle", "paddle2onnx"),
}


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", GUIDE.read_text(), flags=re.MULTILINE)[1:]
    return {title: text for title, text in zip(parts[::2], parts[1::2], strict=True) if "```python" in text}


def test_every_example_has_its_packages():
    assert set(sections()) == set(NEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("title", NEEDS)
def test_the_example_of(title, tmp_path, monkeypatch, cli):
    for package in NEEDS[title]:
        pytest.importorskip(package, reason=f"{package} is exported")
    text = sections()[title]
    (source,) = re.findall(r"^```python\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / source[0]).write_text(source[1])
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for line in script.splitlines():
        program, *words = shlex.split(line)
        if program == "onnxopt":
            ended = cli(*words)
            assert ended.code == 0, f"{line}: {ended.err}"
            assert (tmp_path / words[words.index("-o") + 1]).stat().st_size > 100
        else:
            subprocess.run([sys.executable, *words], check=True)
