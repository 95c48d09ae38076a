import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxopt.model_file import to_bytes
from tests.builders import BUILDERS


@pytest.fixture
def written(tmp_path):
    def write(name: str) -> Path:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(to_bytes(BUILDERS[name]()))
        return path

    return write


def _external(path: Path, location: str) -> None:
    """Rewrite a model so that its weights are said to lie at `location`."""
    proto = onnx.load(path)
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path.write_bytes(proto.SerializeToString())


def _found(ended) -> dict[str, list[str]]:
    (model,) = json.loads(ended.out)["models"]
    return {finding["code"]: finding["where"] for finding in model["findings"]}


def test_a_clean_model_passes(cli, written):
    ended = cli("check", written("static_batch"), "--strict")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip() == "1 model: 0 errors, 0 warnings, 0 facts."


def test_a_warning_fails_only_when_strict_and_not_when_ignored(cli, written):
    model = written("careless_names")
    assert cli("check", model).code == 0
    strict = cli("check", model, "--strict", "--format", "json")
    assert strict.code == 1
    assert _found(strict)["CHK203"] == ["MatMul x3"]
    assert cli("check", model, "--strict", "--ignore", "CHK203").code == 0
    unknown = cli("check", model, "--ignore", "CHK999")
    assert unknown.code == 2
    assert unknown.err.startswith("ONX101")


def test_one_bad_model_among_good_ones_fails(cli, written, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(written("gemm_mlp").read_bytes()[:100])
    ended = cli("check", written("static_batch"), broken, "--format", "md")
    assert ended.code == 1
    assert f"| {broken} | CHK101 | error |" in ended.out


def test_a_missing_file_is_reported_as_such(cli, tmp_path):
    ended = cli("check", tmp_path / "absent.onnx")
    assert ended.code == 5
    assert ended.err.startswith("ONX501")


@pytest.mark.parametrize("location", ["../weights.bin", "absent.bin", "/etc/hostname"])
def test_external_data_that_cannot_be_used_is_an_error(cli, written, location):
    model = written("gemm_mlp")
    _external(model, location)
    ended = cli("check", model, "--format", "json")
    assert ended.code == 1
    assert list(_found(ended)) == ["CHK103"]


def test_external_data_in_place_is_a_fact_and_too_short_an_error(cli, written, tmp_path):
    model = written("gemm_mlp")
    _external(model, "weights.bin")
    ended = cli("check", model, "--format", "json")
    assert ended.code == 0
    assert _found(ended)["CHK201"] == ["weights.bin"]
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:-1])
    assert list(_found(cli("check", model, "--format", "json"))) == ["CHK103"]


@pytest.mark.parametrize(("opset", "code"), [(6, "CHK102"), (999, "CHK102")])
def test_an_opset_out_of_range_is_an_error(cli, written, opset, code):
    model = written("gemm_mlp")
    proto = onnx.load(model)
    proto.opset_import[0].version = opset
    model.write_bytes(proto.SerializeToString())
    assert list(_found(cli("check", model, "--format", "json"))) == [code]


def test_an_ir_version_that_the_runtime_does_not_know_is_an_error(cli, written):
    model = written("gemm_mlp")
    proto = onnx.load(model)
    proto.ir_version = 999
    model.write_bytes(proto.SerializeToString())
    ended = cli("check", model, "--format", "json")
    assert ended.code == 1
    assert "CHK105" in _found(ended)


def test_what_the_checker_and_the_runtime_reject_is_an_error(cli, written):
    model = written("gemm_mlp")
    proto = onnx.load(model)
    proto.graph.node[0].op_type = "NoSuchOperator"
    model.write_bytes(proto.SerializeToString())
    ended = cli("check", model, "--format", "json")
    assert ended.code == 1
    assert {"CHK104", "CHK105"} <= set(_found(ended))


def test_nan_weights_are_an_error(cli, written):
    model = written("gemm_mlp")
    proto = onnx.load(model)
    weight = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight.flat[0] = np.nan
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, proto.graph.initializer[0].name))
    model.write_bytes(proto.SerializeToString())
    ended = cli("check", model)
    assert ended.code == 1
    assert "CHK301" in ended.out


def test_a_fault_that_two_looks_find_is_one_finding(cli, written):
    ended = cli("check", written("listed_weights_8"), "--format", "json")
    (model,) = json.loads(ended.out)["models"]
    codes = [finding["code"] for finding in model["findings"]]
    assert codes.count("CHK207") == 1
    assert len(codes) == len(set(codes))
