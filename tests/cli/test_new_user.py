"""A new user with a model and own files gets from `optimize MODEL` to a search by the commands that are printed."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from onnxopt import model_file
from tests.builders import I64, F, Net
from tests.cli.conftest import MODELS
from tests.samples.waves import tone, write
from tests.tasks.streaming import voice_detector


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _photos(side: int, channels: int, classes: tuple[str, ...]) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures")
    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, 255, (side, side, channels), np.uint8).squeeze()
        folder = Path("own") / classes[number % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).save(folder / f"{number}.png")


def classifier() -> tuple[str, str]:
    shutil.copy(MODELS / "digits_resnet.onnx", "m.onnx")
    _photos(8, 1, tuple("0123456789"))
    return "IMAGES", "own"


def boxes() -> tuple[str, str]:
    net = Net(2)
    seen = net.node("Relu", net.conv("images", 3, 8, 3, strides=[4, 4]))
    cells = net.conv(net.node("Relu", net.conv(seen, 8, 8, 3, strides=[4, 4])), 8, 7, 1, kernel_shape=[1, 1])
    net.node("Reshape", net.node("Sigmoid", cells), net.ints(0, 7, -1), out="output0")
    images, found = ("images", F, ["n", 3, 96, 96]), ("output0", F, ["n", 7, 36])
    model_file.save(net.model([images], [found]), "m.onnx")
    _photos(96, 3, ("",))
    return "IMAGES", "own"


def encoder() -> tuple[str, str]:
    net = Net(1)
    net.node("ReduceMean", net.node("Gather", net.weight(9, 8), "input_ids"), axes=[1], keepdims=0, out="embedding")
    inputs = [("input_ids", I64, ["batch", "time"]), ("attention_mask", I64, ["batch", "time"])]
    model_file.save(net.model(inputs, [("embedding", F, ["batch", 8])], opset=13), "m.onnx")
    Path("tokenizer.json").write_text(json.dumps({"vocab": ["[PAD]", "[UNK]", "[CLS]", "a", "b", "c", "d", "e"]}))
    words = ["a b", "b c d", "e", "a a a a", "d e b", "c b"]
    Path("own.csv").write_text("text\n" + "".join(f"{word}\n" for word in words * 4))
    return "TEXTS.csv", "own.csv"


def streaming() -> tuple[str, str]:
    pytest.importorskip("soundfile", reason="libsndfile decodes sound")
    model_file.save(voice_detector(), "m.onnx")
    for number in range(8):
        write(Path(f"own/{number}.wav"), tone(1600, hz=200 + 50 * number))
    return "SOUNDS", "own"


def rows() -> tuple[str, str]:
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    values = np.random.default_rng(0).random((24, 64)).round(3)
    lines = [",".join([f"p{i}" for i in range(64)]), *(",".join(map(str, row)) for row in values)]
    Path("own.csv").write_text("\n".join(lines) + "\n")
    return "TABLE.csv", "own.csv"


@pytest.mark.parametrize("kind", [classifier, boxes, encoder, streaming, rows])
def test_the_printed_commands_lead_to_a_search(cli, kind):
    word, own = kind()
    ended = cli("optimize", "m.onnx", "--format", "json")
    assert (ended.code, ended.err[:6]) == (2, "ONX114")
    make, search = (line["command"] for line in json.loads(ended.out)["with_samples"])
    assert f"onnxopt data {word} " in make
    made = cli(*shlex.split(make.replace(word, own))[1:], "--format", "json")
    assert made.code == 0, made.err
    assert search.startswith(json.loads(made.out)["next"])
    planned = cli(*shlex.split(search)[1:], "--dry-run")
    assert planned.code == 0, planned.err


def test_the_next_command_takes_names_with_spaces(cli):
    shutil.copy(MODELS / "digits_mlp.onnx", "my model.onnx")
    made = cli("quantize", "my model.onnx", "--mode", "dynamic", "-o", "my small.onnx")
    assert "Next: onnxopt compare 'my model.onnx' 'my small.onnx' --data SAMPLES" in " ".join(made.out.split())
    begun = cli("init", "my model.onnx", "-o", "my options.toml")
    assert "Next: onnxopt optimize 'my model.onnx' --config 'my options.toml'" in begun.out, begun.err
    layers = cli("diagnose", "my model.onnx", "my small.onnx", "--data", "digits", "--out", "my layers.toml")
    command = layers.out.partition("Next: ")[2] or layers.out.rpartition("    onnxopt ")[2]
    assert "quantize 'my model.onnx' --overrides 'my layers.toml'" in " ".join(command.split()), layers.err
