import numpy as np
import pytest
from measure_models import built, linear, samples_of, zipmap
from onnx import TensorProto, helper

from onnxopt.errors import DataError
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.judge import Judge
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.measure.tasks.task import TaskOptions

RUNTIME = Runtime()
BY_CLASS = TaskOptions(tasks=(("", "classification"),))
X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
LABELS = X.argmax(axis=1)
OTHER = np.eye(3) + 0.3 * np.eye(3, k=1)


def judges() -> list[Judge]:
    return [
        LabelJudge(linear(np.eye(3)), samples_of(X, LABELS), RUNTIME, metric_of("top1")),
        FidelityJudge(linear(np.eye(3)), samples_of(X), RUNTIME, BY_CLASS),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_both_judges_say_the_same_when_the_baseline_is_right(index):
    judge = judges()[index]
    assert judge.baseline().value == 1.0
    assert judge.baseline() is judge.baseline()
    candidate = judge.evaluate(linear(OTHER))
    share = np.mean((X @ OTHER).argmax(axis=1) != LABELS)
    lost = judge.drop(candidate)
    assert lost.value == pytest.approx(share)
    assert lost.worse == round(share * 60)
    assert (lost.p_value is None) == (judge.kind == "fidelity")
    assert judge.drop(judge.baseline()).value == 0
    assert judge.drop(judge.baseline()).probability_within(0.001) < 0.9


def test_their_names_tell_them_apart():
    label, fidelity = judges()
    assert (label.kind, label.metric_name) == ("accuracy", "top1")
    assert (fidelity.kind, fidelity.metric_name) == ("fidelity", "top-1 agreement")


def test_disagreement_cannot_be_better_than_none():
    judge = judges()[1]
    assert judge.drop(judge.baseline()).interval.low == 0


def test_numbers_are_judged_by_relative_error():
    judge = FidelityJudge(linear(np.ones((3, 1))), samples_of(X), RUNTIME)
    assert judge.metric_name == "1 - relative RMS error"
    truth = X.astype(np.float64).sum(axis=1)
    candidate = judge.evaluate(linear(1.1 * np.ones((3, 1))))
    expected = 0.1 * np.sqrt(np.mean(truth**2)) / truth.std()
    lost = judge.drop(candidate)
    assert lost.value == pytest.approx(expected, rel=1e-4)
    assert lost.interval.low > 0
    assert lost.probability_within(0.2) > 0.9
    assert judge.drop(judge.evaluate(linear(np.ones((3, 1)), [np.nan]))).probability_within(100) == 0


def test_a_constant_is_worth_nothing():
    judge = FidelityJudge(linear(np.ones((3, 1))), samples_of(X), RUNTIME)
    mean = X.astype(np.float64).sum(axis=1).mean()
    assert judge.evaluate(linear(np.zeros((3, 1)), [mean])).value == pytest.approx(0, abs=1e-5)


def test_an_output_that_never_varies_is_measured_against_its_size():
    judge = FidelityJudge(linear(np.zeros((3, 1)), [2.0]), samples_of(X), RUNTIME)
    assert judge.evaluate(linear(np.zeros((3, 1)), [1.0])).value == pytest.approx(0.5)


def test_the_worst_of_several_outputs_counts():
    def two(second):
        value = helper.make_tensor_value_info
        nodes = [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Mul", ["x", "k"], ["b"])]
        outputs = [value(name, TensorProto.FLOAT, ["n", 3]) for name in "ab"]
        return built(nodes, [value("x", TensorProto.FLOAT, ["n", 3])], outputs, {"k": np.float32(second)})

    judge = FidelityJudge(two(1), samples_of(X), RUNTIME)
    assert judge.evaluate(two(1.5)).value == pytest.approx(0.5, abs=0.02)
    assert FidelityJudge(two(1), samples_of(X), RUNTIME, TaskOptions(output="a")).evaluate(two(1.5)).value == 1


def test_maps_are_judged_by_class():
    judge = FidelityJudge(zipmap(), samples_of(X), RUNTIME)
    assert judge.metric_name == "top-1 agreement"
    assert judge.baseline().value == 1


def test_samples_without_a_number_in_the_baseline_are_left_out_and_named():
    x = X.copy()
    x[[3, 17]] = np.nan
    for judge in (
        LabelJudge(linear(np.eye(3)), samples_of(x, LABELS), RUNTIME, metric_of("top1")),
        FidelityJudge(linear(np.eye(3)), samples_of(x), RUNTIME, BY_CLASS),
    ):
        assert (judge.baseline().left_out, judge.baseline().n) == ((3, 17), 58)
        assert judge.drop(judge.evaluate(linear(np.eye(3)))).within(0.0)
        assert judge.drop(judge.evaluate(linear(np.eye(3), [np.nan, 0, 0]))).broken


def test_a_baseline_without_numbers_for_most_samples_is_refused():
    x = X.copy()
    x[:31] = np.nan
    with pytest.raises(DataError, match=r"ONX207.*31 of 60"):
        FidelityJudge(linear(np.eye(3)), samples_of(x), RUNTIME).baseline()
    x[30] = X[30]
    assert FidelityJudge(linear(np.eye(3)), samples_of(x), RUNTIME).baseline().n == 30


def test_infinities_of_the_baseline_are_equal_to_themselves_and_to_nothing_else():
    bias = [-np.inf, 0, 0]
    judge = FidelityJudge(linear(np.eye(3), bias), samples_of(X), RUNTIME)
    assert judge.drop(judge.evaluate(linear(np.eye(3), bias))).value == 0
    assert judge.drop(judge.evaluate(linear(1.5 * np.eye(3), bias))).value > 0.4
    assert judge.drop(judge.evaluate(linear(np.eye(3), [np.inf, 0, 0]))).broken
