"""The public names: the Python twins of commands, and their results."""

import dataclasses
import inspect
import typing
from pathlib import Path

import onnx
import pytest

import onnxopt
from onnxopt.cli.app import _COMMANDS
from onnxopt.errors import FileError, ModelError, UsageError
from onnxopt.options.declared import attribute_docs, declared_options, field_docs
from tests import builders

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "digits_mlp.onnx"


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    onnxopt.quantize(MODEL, "digits:train", out=path)
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
    assert "The runs have different processors or threads: do not compare their milliseconds." in found.differences
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


@pytest.mark.parametrize(
    ("options", "code", "where"),
    [({"schema", "groups"}, "ONX109", "schema, groups"), ({"measure"}, "ONX112", "measure")],
)
def test_inspect_refuses_options_that_contradict_each_other(options, code, where):
    with pytest.raises(UsageError, match=rf"{code}.*\[{where}\]"):
        onnxopt.inspect(MODEL, **dict.fromkeys(options, True))


def test_benchmark_has_every_kind_of_measurement():
    models = {"float": MODEL, "again": onnx.load(MODEL)}
    batch = onnxopt.benchmark(models, scenario="batch", seconds=0.05)
    assert list(batch.latency) == [8]
    several = onnxopt.benchmark(models, batch_size=(1, 2), seconds=0.05, hot=True)
    assert {size: list(timed) for size, timed in several.latency.items()} == {1: list(models), 2: list(models)}
    streams = onnxopt.benchmark(models, scenario="streams", streams=2, seconds=0.1)
    assert {name: one.streams for name, one in streams.throughput.items()} == {"float": 2, "again": 2}
    offline = onnxopt.benchmark(MODEL, scenario="offline", seconds=0.1)
    assert offline.throughput[str(MODEL)].batch_size == 32
    profiled = onnxopt.benchmark(models, profile=True)
    assert profiled.profiles["again"].total_ms > 0
    for found in (batch, streams, profiled):
        assert "<table" in found._repr_html_()


def test_benchmark_measures_several_processes():
    found = onnxopt.benchmark(MODEL, processes=2, seconds=0.1)
    assert found.load[str(MODEL)].processes == 2
    assert not found.latency


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": float("nan")}, r"ONX101.*\[seconds\]"),
        ({"batch_size": (1, 0)}, r"ONX101.*\[batch_size\]: 0 given"),
        ({"batch_size": ()}, r"ONX101.*\[batch_size\]"),
        ({"processes": 0}, r"ONX101.*\[processes\]"),
        ({"scenario": "stream"}, r"ONX101.*\[scenario\].*Did you mean 'streams'"),
        ({"streams": 2}, r"ONX112.*\[streams\]"),
        ({"profile": True, "memory": True, "hot": True}, r"ONX109.*\[profile, memory, hot\]"),
        ({"profile": True, "processes": 2}, r"ONX109.*\[profile, processes\]"),
        ({"processes": 2, "scenario": "batch"}, r"ONX109.*\[processes, scenario\]"),
        ({"scenario": "offline", "batch_size": [1, 8]}, r"ONX109.*\[scenario offline, batch_size\]"),
        ({"device": "ssh://board", "data": "digits", "profile": True}, r"ONX109.*\[device, profile\]"),
        ({"device": "ssh://board", "data": "digits", "runtime": onnxopt.Runtime("openvino")}, "device, runtime"),
        ({"device": "ssh://board"}, "ONX113.*a device measures files on samples"),
        ({"device": "ssh://board", "data": "digits", "models": onnx.load(MODEL)}, "ONX113.*measures files"),
    ],
)
def test_benchmark_refuses_what_does_not_go_together(options, message):
    with pytest.raises(UsageError, match=message):
        onnxopt.benchmark(**{"models": MODEL} | options)


def test_evaluate_adds_simulated_processors():
    found = onnxopt.evaluate(MODEL, "digits", limit=40, simulate=["x86-avx2", "arm64"])
    assert list(found.simulated) == ["x86-avx2", "arm64"]
    assert found.simulated["arm64"].evaluation.n == found.n == 40
    assert found.interval.low <= found.value <= found.interval.high
    assert found.document.data["model"] == str(MODEL)
    assert "arm64" in found._repr_html_()


def test_quantize_takes_the_options_of_its_pass():
    made = onnxopt.quantize(MODEL, "digits", method="entropy")
    assert "method=entropy" in made.passes
    with pytest.raises(UsageError, match=r"ONX102.*\[metod\]\. Did you mean 'method'"):
        onnxopt.quantize(MODEL, "digits", metod="entropy")
    with pytest.raises(UsageError, match=r"ONX102: unknown option of mode auto \[effrt\]\. Did you mean 'effort'"):
        onnxopt.quantize(MODEL, "digits", mode="auto", effrt="high")
    with pytest.raises(UsageError, match=r"ONX101.*\[effort\]: 'hih'"):
        onnxopt.quantize(MODEL, "digits", mode="auto", effort="hih")
    with pytest.raises(UsageError, match=r"ONX101.*\[time_limit\].*Give more than 0"):
        onnxopt.quantize(MODEL, "digits", mode="auto", time_limit=0)


def _public():
    return {name: getattr(onnxopt, name) for name in dir(onnxopt) if name != "__version__"}


def _classes(hint):
    if inspect.isclass(hint) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from _classes(part)


def _hints(item):
    """Yield the types that a call takes and returns, or that a class holds and its public methods take and return."""
    if not inspect.isclass(item):
        yield from typing.get_type_hints(item).values()
        return
    if dataclasses.is_dataclass(item):
        hints = typing.get_type_hints(item)
        yield from (hints[field.name] for field in dataclasses.fields(item))
    for name, member in vars(item).items():
        function = getattr(member, "fget", None) or getattr(member, "func", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield from typing.get_type_hints(function).values()


INSIDE = {"Reader", "Source"}
"""Parts of Samples, which `open_samples` makes."""


def test_what_public_calls_take_and_return_is_public():
    public = set(_public().values())
    hidden = {
        f"{kind.__name__} of {name}"
        for name, item in _public().items()
        for hint in _hints(item)
        for kind in _classes(hint)
        if kind.__module__.startswith("onnxopt") and kind not in public and kind.__name__ not in INSIDE
    }
    assert not hidden


def test_the_docstring_of_a_public_call_has_each_parameter_and_no_other():
    calls = {name: item for name, item in _public().items() if inspect.isfunction(item)}
    documented = {name: set(attribute_docs(inspect.getdoc(call) or "")) for name, call in calls.items()}
    assert documented == {name: _written(call) for name, call in calls.items()}


def _written(call):
    """Return the parameters as written in the code, without fields of `options` that may be given by name."""
    code = inspect.unwrap(call).__code__
    more = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + more])


def test_the_fields_of_options_given_by_name_are_documented_in_their_class():
    for call, kind in ((onnxopt.optimize, onnxopt.SearchOptions),):
        fields = set(inspect.signature(call).parameters) - _written(call)
        assert fields
        assert all(docs for name, docs in field_docs(kind).items() if name in fields)
        assert fields <= {option.field for option in declared_options(kind) if option.about}


GROUPS = {"scoring": ("metric", "output", "threshold"), "shown": ()}
"""Options that several commands share, and the keywords that carry them."""
NEGATED = {"no_simplify": "simplify"}
TWINS = ["apply", "benchmark", "bundle", "card", "check", "compare", "device_result", "diagnose", "evaluate", "export"]
TWINS += ["audit", "data", "generation", "inspect", "log_run", "sensitivity", "variants", "verify"]


@pytest.mark.parametrize("name", TWINS)
def test_a_command_and_its_call_have_the_same_words(name):
    options = inspect.signature(_COMMANDS[name.replace("_", "-")]).parameters
    words = {NEGATED.get(word, word) for option in options for word in GROUPS.get(option, (option,))}
    assert words <= set(inspect.signature(getattr(onnxopt, name)).parameters)
