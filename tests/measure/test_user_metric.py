import numpy as np
import pytest

from onnxopt.errors import UsageError
from onnxopt.measure.metrics import metric_of

CODE = """
import numpy as np

def share(outputs, labels):
    return np.mean(outputs["scores"].argmax(axis=1) == labels)

def boxes(outputs, labels):
    assert isinstance(outputs["boxes"], list)
    return sum(len(b) for b in outputs["boxes"]) / len(labels)

def loss(outputs, labels):
    return 1.0
loss.higher_is_better = False

def breaks(outputs, labels):
    raise KeyError("no such box")

number = 3
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "scores.py"
    file.write_text(CODE)
    return file


def test_it_sees_all_samples_together(path):
    metric = metric_of(f"{path}:share")
    batches = [(np.eye(3, dtype=np.float32)[:2], [0, 1]), (np.eye(3, dtype=np.float32)[2:], [0])]
    rows = np.concatenate([metric.rows({"scores": s, "other": s}, np.array(labels)) for s, labels in batches])
    assert metric.value(rows) == pytest.approx(2 / 3)
    counts = np.array([[3, 0, 0], [0, 0, 3], [1, 1, 1]])
    np.testing.assert_allclose(metric.values(rows, counts), [1, 0, 2 / 3])


def test_outputs_of_different_lengths_come_as_a_list(path):
    metric = metric_of(f"{path}:boxes", output="boxes")
    rows = [metric.rows({"boxes": np.zeros((k, 4)), "other": 0}, np.array([0])) for k in (2, 5)]
    assert metric.value(np.concatenate(rows)) == 3.5


def test_direction_comes_from_the_function(path):
    assert metric_of(f"{path}:share").higher_is_better
    assert not metric_of(f"{path}:loss").higher_is_better


@pytest.mark.parametrize(
    ("name", "why"), [("missing", "none of this name"), ("number", "not callable"), ("", "none of this name")]
)
def test_functions_that_cannot_be_called(path, name, why):
    with pytest.raises(UsageError, match=f"ONX107.*{why}"):
        metric_of(f"{path}:{name}")


def test_files_that_cannot_be_imported(tmp_path):
    with pytest.raises(UsageError, match=r"ONX107.*does not exist"):
        metric_of(f"{tmp_path}/nothing.py:f")
    (tmp_path / "bad.py").write_text("import no_such_module_at_all")
    with pytest.raises(UsageError, match=r"ONX107.*ModuleNotFoundError.*no_such_module_at_all"):
        metric_of(f"{tmp_path}/bad.py:f")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"ONX107.*not Python"):
        metric_of(f"{tmp_path}/text.txt:f")


def test_exceptions_while_scoring_are_named(path):
    metric = metric_of(f"{path}:breaks")
    rows = metric.rows({"scores": np.eye(2)}, np.array([0, 1]))
    with pytest.raises(UsageError, match=r"ONX107.*KeyError.*no such box"):
        metric.value(rows)
