import doctest
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt.errors import ModelError, UsageError
from onnxopt.model_file import to_bytes

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "digits_mlp.onnx"
FORMS = {"path": lambda: str(MODEL), "protobuf": lambda: onnx.load(MODEL), "onnx-ir": lambda: onnxopt.load(MODEL)}


@pytest.mark.long
def test_the_guide_does_what_it_says(tmp_path, monkeypatch):
    for model in (ROOT / "models").glob("*.onnx"):
        shutil.copy(model, tmp_path)
    monkeypatch.chdir(tmp_path)
    failed, ran = doctest.testfile(str(ROOT / "docs/python.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert (failed, ran > 40) == (0, True)


def test_the_guide_names_every_public_name_and_no_other():
    listed = (ROOT / "docs/python.md").read_text().split("## All names")[1]
    named = set(re.findall(r"`(\w+)`", listed))
    assert named == set(dir(onnxopt)) - {"__version__"}


def test_every_public_name_says_what_it_is():
    for name in dir(onnxopt):
        assert (getattr(onnxopt, name).__doc__ or "").strip(), name


def test_an_unknown_keyword_is_an_unknown_option():
    with pytest.raises(UsageError, match=r"ONX102: unknown option of compare \[max_dorp\]\. Did you mean 'max_drop'\?"):
        onnxopt.compare(MODEL, MODEL, "digits", max_dorp="1pp")
    with pytest.raises(UsageError, match=r"ONX102: unknown option of pass prune-channels \[rato\]"):
        onnxopt.prune(MODEL, rato=0.5)


def test_public_calls_can_be_pickled():
    for name in dir(onnxopt):
        assert pickle.loads(pickle.dumps(getattr(onnxopt, name))) == getattr(onnxopt, name)


@pytest.fixture(params=FORMS)
def model(request):
    return FORMS[request.param]()


def _bytes(model) -> bytes:
    if isinstance(model, str):
        return Path(model).read_bytes()
    return to_bytes(model) if isinstance(model, ir.Model) else model.SerializeToString()


def test_calls_take_every_form_of_a_model_and_leave_it_alone(model, tmp_path):
    before = _bytes(model)
    expected = onnxopt.inspect(str(MODEL)).data["macs"]
    assert onnxopt.inspect(model).data["macs"] == expected
    assert onnxopt.evaluate(model, "digits", limit=50).n == 50
    assert onnxopt.evaluate(model, "digits", limit=50, simulate="arm64").n == 50
    made = onnxopt.quantize(model, "digits:train")
    assert made.size_after < made.size_before
    assert onnxopt.inspect(onnxopt.prune(model, ratio=0.5, round_to=1).model).data["macs"] < expected
    assert onnxopt.inspect(onnxopt.factorize(model, rank_ratio=0.2, verify=False).model).data["macs"] < expected
    compared = onnxopt.compare(model, made.model, "digits", limit=50, seconds=0.05)
    assert compared.accuracy.drop.n == 50
    timed = onnxopt.benchmark([model, made.model], seconds=0.05)
    assert len(timed.latency[1]) == 2
    for shown in (made, compared, timed, onnxopt.inspect(model)):
        assert "<table" in shown._repr_html_()
    assert _bytes(model) == before


def test_one_model_is_timed_alone(model):
    (latency,) = onnxopt.benchmark(model, seconds=0.05).latency[1].values()
    assert latency.speedup is None


def test_the_same_model_in_every_form_gives_the_same_bytes():
    made = [to_bytes(onnxopt.apply(form(), "simplify,quantize-dynamic").model) for form in FORMS.values()]
    assert made[0] == made[1] == made[2]


def test_what_is_no_model_is_refused():
    with pytest.raises(UsageError, match="ONX101: this is not a model \\[ndarray\\]"):
        onnxopt.inspect(np.zeros(3))
    with pytest.raises(ModelError, match="ONX301"):
        onnxopt.inspect(onnx.ModelProto())
    outside = onnx.load(MODEL)
    outside.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="external files"):
        onnxopt.inspect(outside)


@pytest.mark.parametrize("metric", [None, "top1", "rmse"])
def test_labels_of_different_shapes_are_refused_by_every_built_in_metric(metric):
    items = [(np.zeros(64, np.float32), [1] * (1 + i % 2)) for i in range(4)]
    with pytest.raises(onnxopt.OnnxoptError, match=r"ONX206: the labels differ in shape.*file.py:function"):
        onnxopt.evaluate(ROOT / "models" / "digits_mlp.onnx", items, metric=metric)


def test_a_metric_per_sample_reads_labels_of_different_shapes(tmp_path):
    (tmp_path / "own.py").write_text("def size(outputs, label):\n    return len(label)\n\n\nsize.per_sample = True\n")
    items = [(np.zeros(64, np.float32), [1] * (2 + i % 2)) for i in range(4)]
    found = onnxopt.evaluate(ROOT / "models" / "digits_mlp.onnx", items, metric=f"{tmp_path / 'own.py'}:size")
    assert found.value == 2.5
