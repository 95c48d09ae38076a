from dataclasses import fields

from onnxopt.cli.options import Reading
from onnxopt.report.repro import Origin, repro_command
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

    monkeypatch.setattr("onnxopt.report.apply.apply_passes", apply)
    line = ["--size", "224x192", "--mean", "0.5,0.4,0.3", "--std", "0.2", "--layout", "NHWC"]
    line += ["--channel-order", "bgr", "--resize", "crop"]
    cli("run", resnet, "--passes", "simplify", "-o", tmp_path / "x.onnx", *line)
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
    assert "--passes 'quantize-static{method=mse}' --data 'my images' --calibration-part --limit 100" in line
    assert "--size 8,8 --mean 0.5 --channel-order bgr --target x86-vnni --seed 7 -o best.onnx" in line
    assert "label-offset" not in line
    assert repro_command(parse("quantize-static"), Origin(resnet, object(), None, read, None, "auto", 0), "b") is None
