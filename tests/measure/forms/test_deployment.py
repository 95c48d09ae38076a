import numpy as np
import pytest
from measure_models import linear

from onnxopt.errors import ModelError
from onnxopt.measure.forms.deployment import Deployment, ort_form, prepacked
from onnxopt.measure.forms.outputs import comparison
from onnxopt.model_file import save
from onnxopt.options.runtime import FullRuntime
from tests import builders


@pytest.fixture
def cnn(tmp_path):
    (path,) = save(builders.BUILDERS["residual_cnn"](), tmp_path / "cnn.onnx")
    return path


@pytest.mark.parametrize(("make", "form"), [(prepacked, "prepacked"), (ort_form, "ort")])
def test_a_file_of_another_form_has_the_same_outputs(cnn, tmp_path, make, form):
    default = Deployment(cnn, FullRuntime()).having(("optimization.disable_specified_optimizers", "NchwcTransformer"))
    made = make(default, tmp_path, "cnn")
    assert (made.form, made.runtime.optimization, made.runtime.options) == (form, "none", ())
    assert (tmp_path / "cnn.session.onnx.data").exists() == (form == "prepacked")
    feeds = builders.feeds_of(builders.BUILDERS["residual_cnn"]())
    assert comparison(default, [feeds])(made) <= 1e-6


def test_outputs_that_differ_are_measured_against_the_largest(tmp_path):
    one, other = (
        Deployment(save(linear(scale * np.eye(3)), tmp_path / f"{scale}.onnx")[0], FullRuntime()) for scale in (2, 3)
    )
    compared = comparison(one, [{"x": np.array([[1, -4, 2]], np.float32)}])
    assert compared(other) == 0.5  # 12 in place of 8
    assert compared(one) == 0
    assert comparison(one, [])(one) == float("inf"), "nothing was compared"


def test_a_model_that_cannot_be_loaded_has_no_other_form(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"none")
    with pytest.raises(ModelError, match="ONX304"):
        prepacked(Deployment(tmp_path / "bad.onnx", FullRuntime()), tmp_path, "bad")


def test_entries_of_threads_leave_with_them(tmp_path):
    two = Deployment(tmp_path / "m.onnx", FullRuntime()).with_threads(2).having(("session.dynamic_block_base", "4"))
    assert dict(two.runtime.options) == {"session.force_spinning_stop": "1", "session.dynamic_block_base": "4"}
    one = two.having(("session.disable_prepacking", "1")).with_threads(1)
    assert (one.runtime.threads, one.runtime.options) == (1, (("session.disable_prepacking", "1"),))
    beside = one.with_threads(1, 4)
    assert (beside.runtime.threads, beside.runtime.inter_threads) == (1, 4)
    assert "session.force_spinning_stop" in dict(beside.runtime.options)
