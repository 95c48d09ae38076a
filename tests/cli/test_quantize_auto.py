"""`quantize --mode auto`: it says why it chose, and takes no option that it decides itself."""

import json

import pytest


def test_it_says_what_it_chose_and_why(cli, mlp, tmp_path):
    out = tmp_path / "small.onnx"
    # Of another family nothing is timed here, so that the outcome is always the same.
    made = cli("quantize", mlp, "-d", "digits:train", "-o", out, "--mode", "auto", "--target", "arm64", "-f", "json")
    assert made.code == 0
    found = json.loads(made.out)
    assert "quantize-" in found["passes"]
    assert "the smallest error" in found["note"]
    assert out.exists()
    assert found["size_after_bytes"] < found["size_before_bytes"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--mode", "auto", "--method", "mse"), "--method"),
        (("--mode", "auto", "--per-tensor"), "--per-tensor"),
        (("--mode", "auto", "--exclude", "x"), "--exclude"),
        (("--effort", "high"), "--effort"),
        (("--mode", "dynamic", "--effort", "high"), "--effort"),
    ],
)
def test_options_of_the_other_modes_are_refused(cli, mlp, tmp_path, options, named):
    made = cli("quantize", mlp, "-d", "digits", "-o", tmp_path / "small.onnx", *options)
    assert made.code == 2
    assert "ONX112" in made.err
    assert named in made.err


def test_it_needs_samples(cli, mlp, tmp_path):
    made = cli("quantize", mlp, "-o", tmp_path / "small.onnx", "--mode", "auto")
    assert made.code == 2
    assert "ONX114" in made.err
