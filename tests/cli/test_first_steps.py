"""A search without samples ends in what this model needs, and in commands that work without any."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from onnxopt import model_file
from tests import builders
from tests.cli.conftest import MODELS
from tests.samples.waves import tone, write
from tests.tasks.streaming import voice_detector


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _data(cli, name: str) -> dict:
    ended = cli("optimize", name, "--format", "json")
    assert ended.code == 2
    assert ended.err.startswith("ONX114: samples are needed here, and none were given [--data]")
    assert ended.err.count("\n") == 1
    return json.loads(ended.out)


def test_the_inputs_are_named_and_nothing_is_written(cli):
    shutil.copy(MODELS / "digits_resnet.onnx", "my model.onnx")
    ended = cli("optimize", "my model.onnx")
    assert ended.code == 2
    assert "image: float32[batch, 1, 8, 8]" in ended.out
    assert "onnxopt data IMAGES --for 'my model.onnx' -o samples.npz" in ended.out
    assert "onnxopt optimize 'my model.onnx' --data samples.npz --max-drop 1pp --time-limit 300" in ended.out
    assert [path.name for path in Path().iterdir()] == ["my model.onnx"]


def test_programs_get_the_inputs_and_the_commands(cli):
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    data = _data(cli, "m.onnx")
    assert data["code"] == "ONX114"
    assert data["inputs"] == [{"name": "X", "dtype": "float32", "shape": [None, 64]}]
    assert [line["command"].split()[1] for line in data["without_samples"]] == ["quantize", "apply", "benchmark"]


@pytest.mark.parametrize("kind", ["digits_lstm", "digits_resnet", "quantized"])
def test_every_command_without_samples_works(cli, kind):
    if kind == "quantized":
        shutil.copy(MODELS / "digits_mlp.onnx", "float.onnx")
        assert cli("quantize", "float.onnx", "--mode", "dynamic", "-o", "m.onnx").code == 0
    else:
        shutil.copy(MODELS / f"{kind}.onnx", "m.onnx")
    commands = [line["command"] for line in _data(cli, "m.onnx")["without_samples"]]
    assert ("repair" in " ".join(commands)) == (kind == "quantized")
    for command in commands:
        words = shlex.split(command)[1:]
        short = ["--seconds", "0.05"] if words[0] in ("repair", "benchmark") else []
        ended = cli(*words, *short)
        assert ended.code == 0, f"{command}: {ended.err}"


def test_convolutions_are_not_offered_dynamic_quantization(cli):
    net = builders.Net(0)
    net.node("Relu", net.conv("x", 3, 8), out="y")
    model_file.save(net.model([("x", builders.F, ["n", 3, 8, 8])], [("y", builders.F, ["n", 8, 8, 8])]), "conv.onnx")
    assert all("dynamic" not in line["command"] for line in _data(cli, "conv.onnx")["without_samples"])


def test_a_missing_model_is_what_is_said_first(cli):
    ended = cli("optimize", "none.onnx")
    assert ended.code == 5
    assert ended.err.startswith("ONX501")


def test_faults_that_repair_mends_are_offered(cli):
    model_file.save(builders.listed_weights(), "old.onnx")
    (line,) = [c for c in _data(cli, "old.onnx")["without_samples"] if "repair" in c["command"]]
    assert line["does"] == "Mend a file that is slow or large (CHK207)"
    ended = cli(*shlex.split(line["command"])[1:], "--seconds", "0.05", "--format", "json")
    assert ended.code == 0
    assert [one["code"] for one in json.loads(ended.out)["repairs"]] == ["CHK207"]


def test_a_detector_of_any_size_runs_without_samples(cli):
    """It halves its input three times and joins the halves, which fails at a few pixels, as detectors do."""
    net = builders.Net(0)
    halves = ["x"]
    for channels in ((3, 8), (8, 8), (8, 8)):
        halves.append(net.node("Relu", net.conv(halves[-1], *channels, strides=[2, 2], pads=[1, 1, 1, 1])))
    scales = net.const(np.array([1, 1, 2, 2], np.float32))
    wide = net.node("Resize", halves[-1], "", scales, mode="nearest")
    net.node("Concat", wide, halves[-2], out="y", axis=1)
    shapes = [("x", builders.F, ["n", 3, "h", "w"])], [("y", builders.F, ["n", 16, None, None])]
    model_file.save(net.model(*shapes), "detector.onnx")
    timed = cli("benchmark", "detector.onnx", "--seconds", "0.05")
    assert timed.code == 0, timed.err
    assert "synthetic inputs (x 1x3x224x224)" in " ".join(timed.out.split())
    sized = cli("benchmark", "detector.onnx", "--seconds", "0.05", "--size", "64")
    assert "synthetic inputs (x 1x3x64x64)" in " ".join(sized.out.split())


def test_a_model_that_made_up_inputs_do_not_fit_is_timed_with_samples(cli):
    model_file.save(voice_detector(window=None, runs_at=160), "voice.onnx")
    data = _data(cli, "voice.onnx")
    assert all("benchmark" not in line["command"] for line in data["without_samples"])
    make, *_, timed = (shlex.split(line["command"])[1:] for line in data["with_samples"])
    assert timed == ["benchmark", "voice.onnx", "--data", "samples.npz"]
    Path("own").mkdir()
    for number in range(3):
        write(Path("own") / f"{number}.wav", tone(1600, hz=440 + number))
    make = ["own" if word == "SOUNDS" else "160" if word == "512" else word for word in make]
    for command in (make, [*timed, "--seconds", "0.05"]):
        ended = cli(*command)
        assert ended.code == 0, f"{command}: {ended.err}"
