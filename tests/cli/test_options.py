import json
from dataclasses import fields
from pathlib import Path

import pytest

from onnxopt.cli.options import Reading
from onnxopt.measure.runtime.session import Runtime
from onnxopt.record.repro import Origin, repro_command
from onnxopt.samples import ReadOptions


def test_reading_options_are_those_of_the_readers():
    assert [f.name for f in fields(Reading)] == [f.name for f in fields(ReadOptions)]
    none = {f.name: None for f in fields(Reading)}
    assert Reading(**none).options() == ReadOptions()


def test_reading_options_reach_the_readers(cli, resnet, tmp_path, monkeypatch):
    seen = []

    def apply(*_, read, **__):
        seen.append(read)
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.tasks.apply.apply", apply)
    line = ["--size", "224x192", "--mean", "0.5,0.4,0.3", "--std", "0.2", "--layout", "NHWC"]
    line += ["--channel-order", "bgr", "--resize", "crop"]
    cli("apply", resnet, "--passes", "simplify", "-o", tmp_path / "x.onnx", *line)
    assert seen == [
        ReadOptions(
            resize="crop", size=(224, 192), mean=(0.5, 0.4, 0.3), std=(0.2,), layout="NHWC", channel_order="bgr"
        )
    ]


def test_a_repro_line_says_how_data_was_read(resnet):
    from onnxopt.catalog import parse

    read = ReadOptions(size=(8, 8), mean=(0.5,), channel_order="bgr", label_offset=1)
    origin = Origin(resnet, "my images", None, read, 100, "x86-vnni", 7)
    line = repro_command(parse("quantize-static{method=mse}"), origin, "best.onnx")
    assert line is not None
    assert line.startswith(f"onnxopt apply {resnet} ")
    assert "--passes 'quantize-static{method=mse}' --data 'my images' --calibration-part --limit 100" in line
    assert "--size 8,8 --mean 0.5 --channel-order bgr --target x86-vnni --seed 7 -o best.onnx" in line
    assert "label-offset" not in line
    assert repro_command(parse("quantize-static"), Origin(resnet, object(), None, read, None, "auto", 0), "b") is None


def test_a_repro_line_works_from_anywhere(tmp_path, monkeypatch):
    from onnxopt.catalog import parse

    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "vocab.json", "data.npz"):
        Path(name).touch()
    origin = Origin(Path("model.onnx"), "data.npz", None, ReadOptions(vocab="vocab.json"), None, "auto", 0)
    words = (repro_command(parse("quantize-static"), origin, "best.onnx") or "").split()
    assert {str(tmp_path / name) for name in ("model.onnx", "vocab.json", "data.npz")} <= set(words)
    named = Origin(Path("model.onnx"), "digits", None, ReadOptions(), None, "auto", 0)
    assert "--data digits " in (repro_command(parse("quantize-static"), named, "best.onnx") or "")


@pytest.mark.parametrize("command", ["optimize", "evaluate", "compare", "benchmark"])
def test_session_settings_reach_the_runtime(cli, mlp, monkeypatch, command):
    seen = []

    def stop(self):
        seen.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Runtime, "session_options", stop)
    models = [mlp, mlp] if command == "compare" else [mlp]
    data = [] if command == "benchmark" else ["-d", "digits"]
    options = ["--optimization-level", "basic", "--session-option", "session.disable_prepacking=1"]
    cli(command, *models, *data, *options, "--session-option", "a=b=c")
    assert seen[0].optimization == "basic"
    assert seen[0].options[:2] == (("session.disable_prepacking", "1"), ("a", "b=c"))


def test_options_that_repeat_may_be_a_list_in_a_file(cli, mlp, tmp_path):
    config = tmp_path / "onnxopt.toml"
    config.write_text(
        '[benchmark]\nbatch-size = [1, 2]\nseconds = 0.02\nsession-option = ["a=1", "b=2"]\nformat = "json"\n'
    )
    ended = cli("benchmark", mlp, "--config", config)
    assert ended.code == 0
    assert [m["batch_size"] for m in json.loads(ended.out)["models"]] == [1, 2]
