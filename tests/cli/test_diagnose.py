"""`diagnose`: from a quantized file to a file of overrides and back into `quantize`."""

import json
from pathlib import Path

import onnx
import pytest


@pytest.fixture
def small(cli, resnet, tmp_path) -> Path:
    out = tmp_path / "small.onnx"
    assert cli("quantize", resnet, "-d", "digits", "-o", out, "-q").code == 0
    return out


def test_overrides_go_round(cli, resnet, small, tmp_path):
    file = tmp_path / "keep.toml"
    ended = cli("diagnose", resnet, small, "-d", "digits", "--limit", 8, "--keep", 2, "-o", file, "--format", "json")
    assert ended.code == 0
    told = json.loads(ended.out)
    kept = told["exclude"]
    assert len(kept) == 2
    assert kept == [layer["name"] for layer in told["layers"] if layer["op_type"] in ("Conv", "Gemm", "MatMul")][:2]
    assert all(layer["quantized"] for layer in told["layers"][:2])

    for number, option in enumerate(("--overrides", "--config")):
        again = tmp_path / f"again{number}.onnx"
        made = cli("quantize", resnet, "-d", "digits", "-o", again, option, file, "--format", "json")
        assert made.code == 0
        skipped = {s["target"]: s["reason"] for step in json.loads(made.out)["steps"] for s in step["skipped"]}
        assert {skipped[name] for name in kept} == {"excluded"}
        graph = onnx.load(again).graph
        weights = {i.name: i.data_type for i in graph.initializer}
        assert {weights[n.input[1]] for n in graph.node if n.name in kept} == {onnx.TensorProto.FLOAT}

    better = cli("diagnose", resnet, again, "-d", "digits", "--limit", 8, "--format", "json")
    states = {layer["name"]: layer for layer in json.loads(better.out)["layers"]}
    assert not any(states[name]["quantized"] for name in kept)
    assert all(states[name]["reason"] for name in kept)


def test_the_table_names_the_worst_first(cli, resnet, small):
    ended = cli("diagnose", resnet, small, "-d", "digits", "--limit", 4)
    assert ended.code == 0
    assert "layers run in INT8" in ended.out
    assert "Best layers to keep in float" in ended.out


def test_a_model_that_was_not_made_from_the_other_is_refused(cli, resnet, mlp, small):
    ended = cli("diagnose", mlp, small, "-d", "digits", "--limit", 4)
    assert ended.code == 3
    assert "ONX308" in ended.err


def test_a_file_that_exists_is_kept(cli, resnet, small, tmp_path):
    file = tmp_path / "keep.toml"
    file.write_text("mine")
    ended = cli("diagnose", resnet, small, "-d", "digits", "-o", file)
    assert ended.code == 5
    assert "ONX502" in ended.err
    assert file.read_text() == "mine"


@pytest.mark.parametrize("content", ["[quantize]\n", "exclude = 3\n", "[quantize]\nexclude = [1]\n", "not toml"])
def test_overrides_of_another_form_are_refused(cli, resnet, tmp_path, content):
    file = tmp_path / "keep.toml"
    file.write_text(content)
    ended = cli("quantize", resnet, "-d", "digits", "-o", tmp_path / "x.onnx", "--overrides", file)
    assert ended.code == 2
    assert "ONX105" in ended.err
    assert not (tmp_path / "x.onnx").exists()


def test_a_negative_count_is_refused(cli, resnet, small):
    ended = cli("diagnose", resnet, small, "-d", "digits", "--keep", -1)
    assert ended.code == 2
    assert "ONX101" in ended.err
