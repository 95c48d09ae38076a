"""Export: files made by other frameworks' exporters compute what their sources do, or there is one clear line."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt import extras
from onnxopt.errors import FileError, ModelError, UsageError
from onnxopt.exporters import sources
from onnxopt.exporters.converted import Converted, Wanted, flat, made_up_input
from onnxopt.exporters.verify import verify
from onnxopt.measure.runtime.session import Runtime, Session
from tests.builders import gemm_mlp

SOURCES = Path(__file__).parent / "sources.py"
MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"


@pytest.fixture(scope="module")
def torch_net():
    pytest.importorskip("torch", reason="torch is exported")
    pytest.importorskip("onnxscript", reason="torch's exporter needs it")
    from tests.exporters.sources import torch_net as made

    return made()


@pytest.mark.parametrize("exporter", [pytest.param("dynamo", marks=pytest.mark.slow), "torchscript"])
def test_torch(torch_net, tmp_path, exporter):
    net, inputs = torch_net
    net.train()
    statistics = net[1].running_mean.clone()
    made = onnxopt.export(net, out=tmp_path / "net.onnx", inputs=inputs, exporter=exporter)
    assert made.framework == "torch"
    assert exporter in made.exporter
    assert made.verified.difference < 1e-5
    assert made.verified.batches == 4
    assert made.verified.rows_apart < 1e-5
    assert net.training
    assert (net[1].running_mean == statistics).all()
    session = Session(tmp_path / "net.onnx", Runtime())
    x = np.random.RandomState(1).standard_normal((5, 3, 8, 8)).astype(np.float32)
    net.eval()
    expected = net(inputs.new_tensor(x)).detach().numpy()
    np.testing.assert_allclose(session.run({session.input_names[0]: x})[0], expected, rtol=1e-4, atol=1e-5)
    assert "BatchNormalization" not in {node.op_type for node in made.model.graph}


def test_torch_with_a_fixed_batch(torch_net):
    net, inputs = torch_net
    made = onnxopt.export(net, inputs=inputs, fixed_batch=True, exporter="torchscript", simplify=False)
    assert list(made.model.graph.inputs[0].shape) == [1, 3, 8, 8]
    assert made.verified.rows_apart is None
    assert made.files == ()


def test_a_torch_model_that_is_bound_to_its_batch_is_not_exported_in_silence(torch_net):
    import torch

    class Bound(torch.nn.Module):
        def forward(self, x):
            return x.reshape(int(x.shape[0]), -1)

    with pytest.raises(ModelError, match="ONX312"):
        onnxopt.export(Bound(), inputs=torch.randn(2, 6), exporter="torchscript")


def test_torch_without_inputs_says_what_to_do(torch_net):
    with pytest.raises(UsageError, match="ONX113: example inputs are needed \\[torch\\]"):
        onnxopt.export(torch_net[0])
    with pytest.raises(UsageError, match=r"ONX101: unknown exporter \[dynam\]. Did you mean 'dynamo'"):
        onnxopt.export(torch_net[0], inputs=torch_net[1], exporter="dynam")


def test_sklearn_by_command(cli, tmp_path):
    pytest.importorskip("skl2onnx", reason="skl2onnx exports scikit-learn")
    out = tmp_path / "table.onnx"
    ended = cli("export", f"{SOURCES}:table_model", "--out", out, "--format", "json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["framework"] == "sklearn"
    assert said["difference"] < 1e-5
    assert said["files"] == [str(out)]
    assert len(Session(out, Runtime()).output_names) == 2
    again = cli("export", f"{SOURCES}:table_model", "--out", out)
    assert again.code == 5
    assert again.err.startswith("ONX502")


def test_sklearn_from_a_pickle_with_inputs(cli, tmp_path):
    pytest.importorskip("skl2onnx", reason="skl2onnx exports scikit-learn")
    joblib = pytest.importorskip("joblib", reason="joblib reads pickles")
    from tests.exporters.sources import table_model

    model, table = table_model()
    joblib.dump(model, tmp_path / "model.joblib")
    np.savez(tmp_path / "inputs.npz", table=table[:7])
    ended = cli(
        "export", tmp_path / "model.joblib", "--out", tmp_path / "m.onnx", "--inputs", tmp_path / "inputs.npz", "-q"
    )
    assert ended.code == 0, ended.err
    (tmp_path / "broken.pkl").write_bytes(b"nothing")
    assert cli("export", tmp_path / "broken.pkl", "--out", tmp_path / "n.onnx").err.startswith("ONX505")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (f"{SOURCES}:no_model", "ONX111: this is not a model that can be exported [int]"),
        (f"{SOURCES}:fails", "ONX107"),
        (f"{SOURCES}:lacks", "ONX108"),
        (f"{SOURCES}:nothing", "ONX107"),
        ("nowhere.py:make", "ONX107"),
        ("nowhere.keras", "ONX501"),
        (str(SOURCES), "ONX111"),
    ],
)
def test_sources_that_cannot_be_used(cli, tmp_path, source, says):
    ended = cli("export", source, "--out", tmp_path / "out.onnx")
    assert ended.err.startswith(says)
    assert ended.code == (5 if says == "ONX501" else 2)
    assert not (tmp_path / "out.onnx").exists()


def test_other_suffixes_and_frameworks_are_refused(tmp_path):
    with pytest.raises(UsageError, match="ONX101: unknown form of output"):
        onnxopt.export(str(SOURCES), out=tmp_path / "out.pb")
    with pytest.raises(UsageError, match=r"ONX101: unknown framework .* Did you mean 'keras'"):
        onnxopt.export(str(SOURCES), framework="kera")


@pytest.mark.parametrize("framework", sources.FRAMEWORKS)
def test_a_missing_package_is_one_line_that_names_the_extra(framework, monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extras, "import_module", absent)
    convert = sources.converter(framework)
    home = sys.modules[convert.__module__]
    hint = home.INSTALL if framework == "paddle" else f'Run: pip install "onnxopt[{home.EXTRA}]"'
    with pytest.raises(UsageError) as raised:
        convert(Path("model"), Wanted())
    assert raised.value.code == "ONX108"
    assert raised.value.hint == hint
    assert "\n" not in str(raised.value)


def test_every_extra_that_is_named_exists():
    import tomllib

    there = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {sys.modules[sources.converter(f).__module__].EXTRA for f in sources.FRAMEWORKS if f != "paddle"}
    assert named <= set(there)


def test_mobile_format(cli, tmp_path):
    out = tmp_path / "digits.ort"
    ended = cli("export", MODEL, "--out", out)
    assert ended.code == 0, ended.err
    operators = (tmp_path / "digits.required_operators.config").read_text()
    assert "ai.onnx;" in operators
    assert "Gemm" in operators
    assert str(tmp_path) not in operators
    name = Session(MODEL, Runtime()).input_names[0]
    shape = [2 if not isinstance(d, int) else d for d in Session(MODEL, Runtime()).native.get_inputs()[0].shape]
    feeds = {name: np.random.RandomState(0).standard_normal(shape).astype(np.float32)}
    for ours, theirs in zip(Session(out, Runtime()).run(feeds), Session(MODEL, Runtime()).run(feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert cli("export", MODEL, "--out", out).err.startswith("ONX502")
    assert cli("export", MODEL, "--out", tmp_path / "other.onnx").err.startswith("ONX101")


def _converted(model: ir.Model, change: float) -> Converted:
    session = Session(model, Runtime())
    name = session.input_names[0]
    shape = [2 if not isinstance(d, int) else d for d in session.native.get_inputs()[0].shape]
    example = {name: made_up_input(shape, "float32", 0)}
    return Converted("test", model, example, lambda feeds: [out + change for out in session.run(feeds)], {})


def test_other_outputs_are_refused():
    model = gemm_mlp()
    same = verify(model, _converted(model, 0.0), dynamic_batch=False, tolerance=1e-3, seed=0)
    assert same.difference == 0
    with pytest.raises(ModelError, match="ONX312: the exported model gives other outputs than its source"):
        verify(model, _converted(model, 0.1), dynamic_batch=False, tolerance=1e-3, seed=0)


def test_outputs_are_found_in_nests():
    one, two = np.zeros(1), np.ones(2)
    assert [a.size for a in flat({"a": (one, None), "b": [two, 3]})] == [1, 2]


def test_example_inputs_that_cannot_be_read(tmp_path):
    np.savez(tmp_path / "ordered.npz", np.zeros(1), np.ones(2))
    assert [a.size for a in sources.read_inputs(tmp_path / "ordered.npz")] == [1, 2]
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(onnxopt.OnnxoptError, match="ONX201"):
        sources.read_inputs(tmp_path / "text.npz")


def test_a_source_that_is_not_there():
    with pytest.raises(FileError, match="ONX501"):
        onnxopt.export("nowhere.tflite")


def test_a_keras_model_on_torch_is_one_of_keras():
    of_torch = type("Module", (), {"__module__": "torch.nn.modules.module"})
    of_keras = type("Model", (of_torch,), {"__module__": "keras.src.models.model"})
    assert sources.framework_of(of_torch()) == "torch"
    assert sources.framework_of(of_keras()) == "keras"


def test_a_source_that_runs_at_one_batch_size_only_says_what_to_do():
    model = gemm_mlp()

    def run(feeds):
        (array,) = feeds.values()
        if len(array) != 2:
            raise RuntimeError("shape '[2, -1]' is invalid")
        return Session(model, Runtime()).run(feeds)

    bound = replace(_converted(model, 0.0), run=run)
    with pytest.raises(ModelError, match=r"ONX312: the source does not run .*--fixed-batch"):
        verify(model, bound, dynamic_batch=True, tolerance=1e-3, seed=0)
    assert verify(model, bound, dynamic_batch=False, tolerance=1e-3, seed=0).batches == 2


def test_a_notebook_shows_how_close_it_is():
    pytest.importorskip("skl2onnx", reason="skl2onnx exports scikit-learn")
    made = onnxopt.export(f"{SOURCES}:table_model")
    assert "difference from the source" in made._repr_html_()
    assert set(made.versions) == {"scikit-learn", "skl2onnx"}
