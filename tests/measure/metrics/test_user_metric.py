import pickle
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import UsageError
from onnxopt.measure.tasks.named import metric_of

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
    ("name", "why"),
    [("missing", "defines nothing of this name"), ("number", "not callable"), ("", "defines nothing of this name")],
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


RUDE = """
import os, sys, time

def leaves(outputs, labels):
    sys.exit(0)

class Odd(BaseException):
    pass

def odd(outputs, labels):
    raise Odd("of its own kind")

def wanders(outputs, labels):
    os.chdir("/")
    return 1.0

def endless(outputs, labels):
    while True:
        time.sleep(0.01)
endless.time_limit_s = 0.3

def one(outputs, label):
    assert len(outputs["scores"]) == 1
    return float(outputs["scores"].sum() == len(label))
one.per_sample = one.bounded = True
"""


@pytest.fixture
def rude(tmp_path):
    file = tmp_path / "rude.py"
    file.write_text(RUDE)
    return file


def _rows(metric, labels=(0, 1)):
    return metric.rows({"scores": np.eye(2, dtype=np.float32)}, np.array(labels))


@pytest.mark.parametrize(
    ("name", "why"),
    [("leaves", "SystemExit: 0"), ("odd", "Odd: of its own kind"), ("endless", "one call took longer than 0.3 s")],
)
def test_however_a_function_ends_it_is_one_error(rude, name, why):
    metric = metric_of(f"{rude}:{name}")
    with pytest.raises(UsageError, match=f"ONX107.*{why}"):
        metric.value(_rows(metric))


def test_a_file_that_leaves_at_import_is_one_error(tmp_path):
    (tmp_path / "m.py").write_text("raise SystemExit(0)")
    with pytest.raises(UsageError, match=r"ONX107.*SystemExit"):
        metric_of(f"{tmp_path / 'm.py'}:f")


def test_the_current_folder_stays(rude):
    before = Path.cwd()
    metric = metric_of(f"{rude}:wanders")
    assert metric.value(_rows(metric)) == 1.0
    assert Path.cwd() == before


def test_a_metric_per_sample_keeps_a_number_per_sample(rude):
    metric = metric_of(f"{rude}:one")
    labels = np.empty(2, dtype=object)
    labels[:] = [np.zeros(1), np.zeros(3)]
    rows = metric.rows({"scores": np.eye(2, dtype=np.float32)}, labels)
    np.testing.assert_array_equal(rows, [[1.0], [0.0]])
    assert metric.value(rows) == 0.5
    np.testing.assert_array_equal(metric.values(rows, np.array([[2, 0], [0, 2]])), [1.0, 0.0])


def test_a_bounded_metric_has_points(rude, path):
    from onnxopt.search.budget import Budget

    metric = metric_of(f"{rude}:one")
    assert Budget.of("1pp", metric.name, bounded=metric.bounded).points
    plain = metric_of(f"{path}:share")
    with pytest.raises(UsageError, match="ONX101"):
        Budget.of("1pp", plain.name, bounded=plain.bounded)


def test_it_travels_to_other_processes_by_its_file(rude):
    metric = metric_of(f"{rude}:one", output="scores")
    again = pickle.loads(pickle.dumps(metric))
    assert again == metric
    np.testing.assert_array_equal(_rows(again, [np.zeros(1)] * 2), [[1.0], [1.0]])
