from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import from_proto, signature_of
from onnxopt.samples import open_samples
from onnxopt.search.int8.task_loss import ALLOWED, TaskLoss

X = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)


def model(weight, activation="Identity"):
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(activation, ["h"], ["y"])]
    ends = [value(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    weights = [numpy_helper.from_array(np.asarray(weight, np.float32), "w")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def loss(before, after, options=None):
    samples = open_samples({"x": X}, signature_of(before))
    return TaskLoss(before, samples, Runtime(), options).of(after)[0]


SIZES = np.diag([1000.0, 1.0, 0.01])


def test_a_ruined_small_column_is_not_close_however_large_the_others_are():
    assert loss(model(SIZES), model(SIZES * 1.01)) < ALLOWED
    assert loss(model(SIZES), model(SIZES * [1, 1, 0.5])) == pytest.approx(0.25, rel=0.1)


def test_class_scores_are_judged_in_nats_and_a_lost_class_is_never_close():
    before = model(3 * np.eye(3), "Softmax")
    assert 0 < loss(before, model(3.1 * np.eye(3), "Softmax")) < ALLOWED
    assert loss(before, model(np.diag([3, 3, -3]), "Softmax")) > 0.45


def test_the_task_can_be_named():
    by_class = TaskOptions(tasks=(("", "classification"),))
    near = model(SIZES), model(SIZES * [1.0, 1.0, 1.2])
    assert loss(*near, by_class) < ALLOWED < loss(*near)


def test_a_form_that_gives_nan_is_infinitely_far():
    assert loss(model(SIZES), model(SIZES * [1, np.nan, 1])) == np.inf


@pytest.mark.parametrize(
    ("tasks", "counts"),
    [
        (("classification",), False),
        (("regression",), False),
        (("classification", "detection"), True),
        (("text",), True),
    ],
)
def test_answers_that_are_right_or_wrong_are_counted(tasks, counts):
    before = model(SIZES)
    judged = TaskLoss(before, open_samples({"x": X}, signature_of(before)), Runtime())
    judged._found = tuple(SimpleNamespace(task=task) for task in tasks)
    assert judged.counts == counts
