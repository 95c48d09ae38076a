"""The public names: the Python twins of commands, and their results."""

from pathlib import Path

import onnx
import pytest

import onnxopt
from onnxopt.errors import FileError, ModelError, UsageError
from tests import builders

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "digits_mlp.onnx"


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    onnxopt.quantize(MODEL, path, data="digits:train")
    return path


@pytest.mark.parametrize("in_memory", [False, True])
def test_diagnose_ranks_layers_and_writes_the_overrides_that_quantize_reads(int8, tmp_path, in_memory):
    models = [onnx.load(path) if in_memory else path for path in (MODEL, int8)]
    found = onnxopt.diagnose(*models, "digits", keep=2, out=tmp_path / "keep.toml", limit=16)
    losses = [loss.output_db for loss in found.layers if loss.quantized]
    assert losses == sorted(losses)
    assert found.exclude == tuple(loss.name for loss in found.layers[:2])
    assert found.file == tmp_path / "keep.toml"
    assert all(name in found.file.read_text() for name in found.exclude)
    assert [layer["name"] for layer in found.document.data["layers"]] == [loss.name for loss in found.layers]
    assert "<table" in found._repr_html_()


def test_diagnose_refuses_what_makes_no_sense(int8):
    with pytest.raises(UsageError, match=r"ONX101.*\[keep\]: -1 given"):
        onnxopt.diagnose(MODEL, int8, "digits", keep=-1)
    other = builders.BUILDERS["residual_cnn"]()
    with pytest.raises(ModelError, match=r"ONX308.*\[the quantized model\]"):
        onnxopt.diagnose(MODEL, other, "digits")


def test_sensitivity_has_an_entry_for_each_layer_and_technique(tmp_path):
    found = onnxopt.sensitivity(onnx.load(MODEL), "digits", limit=8, plot=tmp_path / "plot.html")
    techniques = {one.technique for one in found.layers}
    assert {"INT8", "rank 50%", "channels -25%"} <= techniques
    assert all((one.error is None) == bool(one.why) for one in found.layers)
    assert found.file is not None
    assert "sensitivity of layers" in found.file.read_text()
    assert "<table" in found._repr_html_()


def test_check_finds_the_same_in_a_file_and_in_memory(tmp_path):
    model = builders.BUILDERS["careless_names"]()
    onnxopt.save(model, tmp_path / "m.onnx")
    both = onnxopt.check({"file": tmp_path / "m.onnx", "memory": model})
    assert both.findings["file"] == both.findings["memory"]
    assert "CHK203" in {finding.code for finding in both.findings["file"]}
    assert both.passed
    assert not onnxopt.check(model, strict=True).passed
    assert onnxopt.check(model, strict=True, ignore=["CHK203", "CHK204", "CHK206", "CHK208"]).passed
    assert list(onnxopt.check([model, model]).findings) == ["model", "model (2)"]
    with pytest.raises(UsageError, match=r"ONX101.*CHK204"):
        onnxopt.check(model, ignore=["CHK2044"])


def test_check_makes_findings_of_damaged_files_and_errors_of_missing_ones(tmp_path):
    (tmp_path / "cut.onnx").write_bytes(MODEL.read_bytes()[:100])
    found = onnxopt.check([tmp_path / "cut.onnx", MODEL])
    assert not found.passed
    assert [finding.code for finding in found.findings[str(tmp_path / "cut.onnx")]] == ["CHK101"]
    with pytest.raises(FileError, match="ONX501"):
        onnxopt.check(tmp_path / "none.onnx")


def test_a_run_is_opened_again(explained, explained_record, tmp_path):
    for where in (explained, explained / "run.json"):
        run = onnxopt.read_run(where)
        assert (run.folder, run.record) == (explained, explained_record)
    assert run.trials == explained_record.trials
    assert run.won
    assert run.report() == explained / "report.html"
    again = run.report(tmp_path / "again.html")
    assert again.read_text().startswith("<!doctype html>")
    with pytest.raises(FileError, match="ONX502"):
        run.report(again)
    assert "dynamic wins" in run._repr_html_()
    assert onnxopt.card(run) == onnxopt.card(explained)
    assert onnxopt.card(explained).startswith("## Optimization")


def test_the_model_of_a_run_is_read_when_it_is_used(explained_record, tmp_path):
    run = onnxopt.Run(tmp_path, explained_record)
    with pytest.raises(FileError, match="ONX501"):
        _ = run.model
    onnxopt.save(builders.BUILDERS["gemm_mlp"](), tmp_path / "best.onnx")
    assert run.model.graph.node(0).op_type == "Gemm"
    assert run.model is run.model


def test_runs_are_compared_as_folders_and_as_objects(explained, explained_record):
    settings = explained_record.settings.model_copy(update={"threads": 4})
    other = onnxopt.Run(Path("b"), explained_record.model_copy(update={"settings": settings}))
    found = onnxopt.compare_runs([explained, other])
    assert found.runs == (onnxopt.read_run(explained), other)
    assert f"threads: 1 in {explained}, 4 in b." in found.differences
    assert "They were timed on different processors or threads: milliseconds cannot be compared." in found.differences
    assert "<table" in found._repr_html_()


def test_verify_takes_a_folder_or_a_run(explained, tmp_path):
    found = onnxopt.verify(explained, tolerance=1)
    assert found.passed
    assert {"best.onnx", "run.json", "report.html"} <= {part.name for part in found.files}
    assert found.outputs
    assert found == onnxopt.verify(onnxopt.read_run(explained), tolerance=1)
    with pytest.raises(FileError, match=r"ONX501.*MANIFEST"):
        onnxopt.verify(tmp_path)


def test_inspect_shows_one_aspect_alone():
    model = onnx.load(MODEL)
    schema = onnxopt.inspect(model, schema=True)
    assert [spec["name"] for spec in schema.data["inputs"]] == [i.name for i in model.graph.input]
    groups = onnxopt.inspect(model, groups=True).data["groups"]
    assert any(group["frozen"] is None and group["size"] > 1 for group in groups)
    layers = onnxopt.inspect(model, spectrum=True).data["layers"]
    assert all(at["rank"] <= layer["full_rank"] for layer in layers for at in layer["ranks"])
    timed = onnxopt.inspect(model, time=True, dim={"batch": 8})
    assert sum(timed.data["time_by_operator_ms"].values()) > 0


@pytest.mark.parametrize(("options", "where"), [({"schema", "groups"}, "schema, groups"), ({"measure"}, "measure")])
def test_inspect_refuses_options_that_contradict_each_other(options, where):
    with pytest.raises(UsageError, match=rf"ONX109.*\[{where}\]"):
        onnxopt.inspect(MODEL, **dict.fromkeys(options, True))
