import json
from pathlib import Path

import pytest

from onnxopt.options.declared import declared_options
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.tasks import TaskOptions
from onnxopt.record.repro import Origin, repro_command


@pytest.mark.parametrize("kind", [ReadOptions, Runtime, TaskOptions])
def test_every_option_of_data_runtime_and_tasks_says_what_it_is_for(kind):
    assert all(o.about.endswith((".", "...")) for o in declared_options(kind))


def test_a_size_is_one_number_or_height_and_width():
    size = next(o for o in declared_options(ReadOptions) if o.field == "size")
    assert [size.written.read(text) for text in ("8", "8x6", "8,6")] == [8, (8, 6), (8, 6)]


@pytest.mark.parametrize("option", ["--size", "--mean", "--std"])
def test_numbers_that_cannot_be_read_are_named(cli, resnet, tmp_path, option):
    ended = cli("apply", resnet, "--passes", "simplify", "-o", tmp_path / "x.onnx", option, "8,y")
    assert ended.err.startswith(f"ONX101: invalid option value [{option}]: '8,y' is not a list of numbers")


def test_without_options_data_runtime_and_tasks_have_their_defaults(cli, mlp, monkeypatch):
    seen = {}

    def evaluate(*_, **given):
        seen.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.tasks.evaluate.evaluate", evaluate)
    cli("evaluate", mlp, "--data", "digits")
    assert (seen["read"], seen["runtime"], seen["tasks"]) == (ReadOptions(), Runtime(), TaskOptions())


def test_options_of_the_task_reach_it(cli, mlp, monkeypatch):
    seen = {}

    def evaluate(*_, **given):
        seen.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.tasks.evaluate.evaluate", evaluate)
    cli("evaluate", mlp, "--data", "digits", "--task", "a=tokens,b=signal", "--nms-iou", "0.5", "--output", "b")
    assert seen["tasks"] == TaskOptions(tasks=(("a", "tokens"), ("b", "signal")), nms_iou=0.5)
    assert seen["output"] == "b"


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

    def stop(runtime):
        seen.append(runtime)
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.measure.runtime.session.session_options", stop)
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
