"""Models that others had trouble with: every command ends as it should on each of them.

The files are not part of the repository; they are looked for beside it. Each kind has a model of this project's own
too, in the tests of the rooms that it concerns.
"""

import json
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxopt.measure.runtime import first_load

FOLDER = Path(__file__).parents[3] / "shared" / "cases"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.onnx")) if not path.stem.startswith("judge_")}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="there are no models of others beside the repository"),
]

INVALID = {
    "hostile_attr_notype": "the attribute 'kernel_shape' of node 'conv0' (Conv) has no type",
    "hostile_customop_noimport": "which the model does not import",
    "hostile_cycle": "depends on its own output",
    "hostile_dims1e9": "states 4000000000000000000 bytes, but holds 1728",
    "hostile_dtype0": "has no type that ONNX knows",
    "hostile_ext_nul": "external data lies outside the model's folder",
    "hostile_func_exp": "expands to more than 1,000,000 nodes",
    "hostile_func_rec": "calls itself",
    "hostile_loopforever": "never ends",
}
"""The reason that every command states."""

NOT_FED = {"hostile_in_zero": "ONX203", "hostile_seq_in": "ONX204", "hostile_inf": "ONX207"}
"""Models for which there are no samples, and the code that says so."""

RUNS = {
    "diagnose_constant_output",
    "float16_mixed",
    "hostile_sparse_ok",
    "hostile_test_ConstantPad2d_op13",
    "hostile_unsorted",
    "hostile_utf8_docstring",
    "load_nodes_not_sorted",
    "load_output_without_shape",
    "quantizer_decoder_empty_past",
    "quantizer_one_grouped_convtranspose",
    "range_mask_finfo_min",
    "range_mask_minus_inf_add",
    "range_mask_minus_inf_where",
    "range_nan_padding_rows",
    "range_pad_big_value",
    "replay_opset23_attention",
    "sensitivity_c2f_split",
    "sensitivity_fused_qkv",
    "simplify_range_blowup",
    "written_matmul_weight_rank1",
    "written_matmul_weight_rank3",
    "written_resize_cubic_qoperator",
    "written_weight_shared_conv_convtranspose",
}
NO_LAYERS = {"hostile_test_ConstantPad2d_op13", "simplify_range_blowup"}
"""Models without a layer, which is all that `diagnose` compares."""

FEWEST_INT8 = {
    "float16_mixed": 4,
    "load_output_without_shape": 3,
    "quantizer_decoder_empty_past": 9,
    "quantizer_one_grouped_convtranspose": 5,
    "range_mask_finfo_min": 9,
    "range_mask_minus_inf_add": 9,
    "range_mask_minus_inf_where": 9,
    "range_nan_padding_rows": 7,
    "range_pad_big_value": 2,
}
"""Layers with weights or products that run in INT8 after static quantization, of those where one node gave up all."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_load, "_death", lambda path, level: "")


def data_of(path: Path) -> str:
    return str(path.with_suffix(".npz")) if path.with_suffix(".npz").exists() else "random"


def without_samples(path: Path, out: Path) -> list[list[object]]:
    return [
        ["inspect", path],
        ["apply", path, "--passes", "simplify", "-o", out / "simplify.onnx"],
        ["quantize", path, "--mode", "dynamic", "-o", out / "dynamic.onnx"],
    ]


def with_samples(path: Path, out: Path) -> list[list[object]]:
    data = ["-d", data_of(path)]
    return [
        ["quantize", path, "--mode", "static", "-o", out / "static.onnx", *data],
        ["sensitivity", path, *data, "--limit", 16],
        ["compare", path, out / "simplify.onnx", *data, "--seconds", 0.05],
    ]


def test_every_file_has_its_place() -> None:
    assert set(FILES) == {*INVALID, *NOT_FED, *RUNS}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_model_ends_in_one_line_that_says_why(cli: Callable, tmp_path: Path, name: str) -> None:
    path = FILES[name]
    checked = cli("check", path, "--format", "json")
    assert checked.code == 1
    for words in [*without_samples(path, tmp_path), *with_samples(path, tmp_path)]:
        ended = cli(*words, "-q") if words[0] != "compare" else cli("compare", path, path, "-d", "random", "-q")
        assert (ended.code, ended.err.count("\n")) == (3, 1), ended.err
        assert INVALID[name] in ended.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NOT_FED)
def test_a_model_that_takes_no_samples_is_still_looked_at(cli: Callable, tmp_path: Path, name: str) -> None:
    path = FILES[name]
    assert cli("check", path).code == 0
    for words in without_samples(path, tmp_path):
        ended = cli(*words, "-q")
        assert (ended.code, ended.err) == (0, ""), ended.err
    ended = cli("sensitivity", path, "-d", "random", "-q")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith(NOT_FED[name])


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_valid_model_works_with_every_command(cli: Callable, tmp_path: Path, name: str) -> None:
    path = FILES[name]
    assert cli("check", path).code == (name == "hostile_test_ConstantPad2d_op13")  # it breaks a rule of IR version 3
    for words in [*without_samples(path, tmp_path), *with_samples(path, tmp_path)]:
        ended = cli(*words, "-q")
        assert (ended.code, ended.err) == (0, ""), (words[0], ended.err)
    for file in tmp_path.glob("*.onnx"):
        ort.InferenceSession(file)
    ended = cli(
        "diagnose", path, tmp_path / "static.onnx", "-d", data_of(path), "--limit", 16, "--format", "json", "-q"
    )
    assert ended.code == (3 if name in NO_LAYERS else 0), ended.err
    if name in FEWEST_INT8:
        layers = json.loads(ended.out)["layers"]
        weighted = [one for one in layers if one["op_type"] in ("Conv", "Gemm", "MatMul")]
        assert sum(one["quantized"] for one in weighted) >= FEWEST_INT8[name], ended.out


def test_a_model_of_mixed_types_gets_smaller(cli: Callable, tmp_path: Path) -> None:
    path = FILES["float16_mixed"]
    for words in (without_samples(path, tmp_path)[2], with_samples(path, tmp_path)[0]):
        assert cli(*words, "-q").code == 0
    assert all(file.stat().st_size < path.stat().st_size for file in tmp_path.iterdir())


def test_a_constant_of_160_mb_stays_folded(cli: Callable, tmp_path: Path) -> None:
    for words in without_samples(FILES["simplify_range_blowup"], tmp_path)[1:]:
        assert cli(*words, "-q").code == 0
    assert all(file.stat().st_size < 2000 for file in tmp_path.iterdir())
