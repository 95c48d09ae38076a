import json
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest

from onnxopt.catalog import available_passes
from onnxopt.model_file import load, signature_of
from onnxopt.quantization.calibration.calibrators import METHODS
from onnxopt.samples import open_samples
from onnxopt.search.candidate_names import legend_line
from tests.run import fakes


def test_optimize_from_the_command_line_to_the_folder(cli, mlp, tmp_path, monkeypatch):
    out = tmp_path / "run"
    line = ("optimize", mlp, "--data", "digits", "--max-drop", "2pp", "-o", out, "--latency-seconds", "0.05")
    ended = cli(*line, "--format", "json")
    assert ended.code in (0, 1)
    record = json.loads(ended.out)
    assert record["status"] == ("won" if ended.code == 0 else "kept-original")
    assert json.loads((out / "run.json").read_text()) == record
    onnx.checker.check_model(str(out / "best.onnx"))

    again = cli(*line)
    assert again.code == 5
    assert "ONX502" in again.err

    (out / "mine.txt").write_text("keep me")
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.static_search)
    shown = cli(*line, "--overwrite")
    assert shown.code == 0
    assert "candidate" in shown.out
    assert "verdict" in shown.out
    assert (out / "mine.txt").read_text() == "keep me"


def test_dry_run_writes_nothing(cli, mlp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = cli("optimize", mlp, "-d", "digits", "--dry-run", "--format", "json")
    assert plan.code == 0
    assert {c["name"] for c in json.loads(plan.out)["candidates"]} >= {"simplify", "dynamic"}
    for line in (
        ("quantize", mlp, "-d", "digits", "-o", "small.onnx"),
        ("apply", mlp, "--passes", "simplify", "-o", "small.onnx"),
    ):
        ended = cli(*line, "--dry-run")
        assert ended.code == 0
        assert "nothing was written" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_quantize_checks_the_output_too(cli, mlp, tmp_path):
    out = tmp_path / "there.onnx"
    out.write_text("something")
    assert cli("apply", mlp, "--passes", "simplify", "-o", out, "--dry-run").code == 5


@pytest.mark.parametrize(
    "line",
    [
        "inspect MODEL",
        "inspect MODEL --schema",
        "passes",
        "passes simplify",
        "doctor",
        "evaluate MODEL -d digits",
        "compare MODEL MODEL -d digits --seconds 0.05",
        "benchmark MODEL --seconds 0.05",
        "benchmark MODEL --profile",
        "apply MODEL --passes simplify -o OUT",
    ],
)
def test_json_is_pure_json(cli, mlp, tmp_path, line):
    words = [{"MODEL": mlp, "OUT": tmp_path / "out.onnx"}.get(word, word) for word in line.split()]
    ended = cli(*words, "--format", "json")
    assert ended.code == 0
    assert json.loads(ended.out)


def test_passes_lists_every_pass_and_option(cli):
    listed = {p["name"]: p for p in json.loads(cli("passes", "--format", "json").out)["passes"]}
    assert set(listed) == set(available_passes())
    for name in listed:
        assert listed[name]["summary"]
    options = {o["name"]: o for o in listed["quantize-static"]["options"]}
    assert set(options["method"]["type"].split("|")) == set(METHODS)
    assert options["method"]["default"] == "minmax"
    assert all(o["doc"] for o in options.values())


def test_schema_is_a_json_schema(cli):
    ended = cli("schema")
    jsonschema.Draft202012Validator.check_schema(json.loads(ended.out))
    assert ended.code == 0


def test_compare_over_the_budget_ends_with_one(cli, resnet, tmp_path):
    spoiled = onnx.load(str(resnet))
    weight = next(t for t in spoiled.graph.initializer if t.name == "classify.weight")
    weight.raw_data = bytes(len(weight.raw_data))
    path = tmp_path / "spoiled.onnx"
    onnx.save(spoiled, str(path))
    ended = cli("compare", resnet, path, "-d", "digits", "--seconds", "0.05")
    assert ended.code == 1
    assert "OVER the budget" in ended.out


def test_compare_warns_of_labels_in_the_wrong_order(cli, mlp, tmp_path):
    labels = np.asarray(open_samples("digits", signature_of(load(mlp))).labels)
    np.save(tmp_path / "y.npy", np.roll(labels, 1))
    command = ("compare", mlp, mlp, "-d", "digits", "--seconds", "0.05")
    wrong = cli(*command, "--labels", tmp_path / "y.npy")
    assert wrong.code == 0
    assert "hardly better than a guess" in " ".join(wrong.out.split())
    found = json.loads(cli(*command, "--labels", tmp_path / "y.npy", "--format", "json").out)
    assert found["warning"].startswith("Warning: the baseline's top1")
    assert json.loads(cli(*command, "--format", "json").out)["warning"] == ""


def test_a_model_named_twice_is_measured_twice(cli, mlp):
    models = json.loads(cli("benchmark", mlp, mlp, "--seconds", "0.05", "--format", "json").out)["models"]
    assert [m["model"] for m in models] == [str(mlp), f"{mlp} (2)"]
    assert models[0]["speedup"] is None
    assert (models[1]["speedup"] is None) == bool(models[1]["unsure"])


def test_options_from_a_file_and_the_command_line_wins(cli, mlp, tmp_path):
    config = tmp_path / "onnxopt.toml"
    config.write_text(
        'seed = 3\nmean = [0.1]\n[optimize]\ndata = "digits"\nmax-drop = "3pp"\ndry-run = true\nformat = "json"\n'
        '[quantize]\nmode = "dynamic"\n'
    )
    plan = json.loads(cli("optimize", mlp, "--config", config).out)
    assert plan["max_drop"] == "3pp"
    plan = json.loads(cli("optimize", mlp, "--config", config, "--max-drop", "2pp").out)
    assert plan["max_drop"] == "2pp"
    made = cli("quantize", mlp, "-o", tmp_path / "small.onnx", "--config", config, "--format", "json")
    assert "quantize-dynamic" in json.loads(made.out)["passes"]


def test_keys_for_other_commands_are_known_but_not_used(cli, mlp, tmp_path):
    config = tmp_path / "onnxopt.toml"
    config.write_text('max-drop = "3pp"\n')
    assert cli("inspect", mlp, "--config", config).code == 0


def test_version_and_no_arguments(cli):
    assert cli("--version").out.startswith("onnxopt ")
    ended = cli()
    assert ended.code == 2
    assert "Commands:" in ended.out


def test_ctrl_c_keeps_what_was_found(cli, mlp, tmp_path, monkeypatch):
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.interrupted_search)
    monkeypatch.setattr(sys, "argv", ["onnxopt", "optimize"])
    ended = cli("optimize", mlp, "-d", "digits", "-o", tmp_path / "run")
    assert ended.code == 130
    assert ended.err.startswith("interrupted: ")
    assert json.loads(Path(tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_load_by_several_processes_is_measured(cli, mlp):
    ended = cli("benchmark", mlp, "--processes", "2", "--seconds", "0.1")
    assert ended.code == 0
    assert "Energy per run" in ended.out or "mJ" in ended.out
    ended = cli("benchmark", mlp, "--processes", "2", "--memory")
    assert ended.code == 2
    assert "ONX109" in ended.err


def test_every_command_is_explained_in_one_line_at_80_columns(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = cli("--help").out.partition("Commands:")[2].partition("Start with")[0]
    assert len(listed.split("\n")) > 20
    assert "..." not in listed


def test_the_help_of_optimize_decodes_candidate_names(cli):
    shown = "".join(cli("optimize", "--help").out.split())
    assert "".join(legend_line().split()) in shown
