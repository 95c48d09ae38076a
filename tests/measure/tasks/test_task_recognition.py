import numpy as np
import pytest
from measure_models import built, linear, samples_of, zipmap
from onnx import TensorProto, helper

from onnxopt.errors import DataError, UsageError
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.facts import facts_of
from onnxopt.measure.tasks.recognition import recognize
from onnxopt.measure.tasks.task import ModelFacts, TaskOptions
from onnxopt.measure.tasks.worst import Worst
from onnxopt.options.tasks import parse_tasks

RUNTIME = Runtime()
X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
TABLE = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
FEEDS = {"x": np.zeros((4, 5), np.float32)}


def tasks(outputs, *, labels=None, options=None, feeds=FEEDS, facts=None):
    return [one.task for one in recognize(outputs, feeds, facts or ModelFacts(), options, labels)]


def judged(model, options=None):
    return FidelityJudge(model, samples_of(X), RUNTIME, options or TaskOptions())


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (linear(np.eye(3)), "regression"),
        (linear(np.eye(3), activation="Softmax"), "classification"),
        (linear(np.eye(3), activation="LogSoftmax"), "classification"),
        (linear(np.ones((3, 2)), activation="Sigmoid"), "multilabel"),
        (linear(np.eye(3), activation="Sigmoid"), "regression"),  # of the shape of the input: a reconstruction
        (zipmap(), "classification"),
    ],
)
def test_a_table_holds_class_scores_only_on_evidence(model, task):
    judge = judged(model)
    assert [one.task for one in judge.recognized][:1] == [task]
    assert judge.choice.startswith(f"Judged as {task}, because ")


def test_labels_that_number_the_columns_are_evidence():
    assert tasks({"y": TABLE}) == ["regression"]
    assert tasks({"y": TABLE}, labels=np.array([0, 2, 1, 0])) == ["classification"]
    assert tasks({"y": TABLE}, labels=np.array([0, 3, 1, 0])) == ["regression"]
    assert tasks({"y": TABLE}, labels=np.array([0, 1.5, 1, 0])) == ["regression"]


def test_rows_that_are_probabilities_are_evidence():
    assert tasks({"y": np.full((4, 3), 1 / 3, np.float32)}) == ["classification"]


def test_steps_of_one_sample_are_no_samples():
    """At a batch of 1 a time-major table of probabilities looks like many samples."""
    facts, feeds = ModelFacts(), {"x": np.zeros((1, 5), np.float32)}
    outputs = {"y": np.full((6, 1, 3), 1 / 3, np.float32)}
    assert tasks(outputs, facts=facts, feeds=feeds) != ["classification"]


def test_the_user_names_the_task_of_all_or_of_each():
    two = {"boxes": TABLE, "scores": TABLE}
    assert tasks(two, options=TaskOptions(tasks=parse_tasks("boxes=regression,scores=classification"))) == [
        "regression",
        "classification",
    ]
    assert tasks({"y": TABLE}, options=TaskOptions(tasks=parse_tasks("classification"))) == ["classification"]
    assert tasks(two, options=TaskOptions(output="scores", tasks=parse_tasks("classification"))) == ["classification"]


@pytest.mark.parametrize(
    ("text", "match"),
    [("klassification", r"ONX102.*classification"), ("a=regression,b", "ONX101"), ("=regression", "ONX101")],
)
def test_tasks_that_cannot_be_read_are_refused(text, match):
    with pytest.raises(UsageError, match=match):
        parse_tasks(text)


def test_an_output_that_is_not_there_or_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"ONX209.*z.*y"):
        tasks({"y": TABLE}, options=TaskOptions(output="z"))
    with pytest.raises(DataError, match="ONX209"):
        tasks({"y": np.zeros((4, 1), np.float32)}, options=TaskOptions(tasks=parse_tasks("classification")))


def test_several_outputs_are_judged_each_by_its_task_and_the_worst_decides():
    def two(first, second):
        value = helper.make_tensor_value_info
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("MatMul", ["x", "v"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["b"]),
        ]
        ends = [value("x", TensorProto.FLOAT, ["n", 3]), value("a", TensorProto.FLOAT, ["n", 2])]
        ends.append(value("b", TensorProto.FLOAT, ["n", 3]))
        weights = {"w": np.full((3, 2), first, np.float32), "v": np.asarray(second, np.float32)}
        return built(nodes, ends[:1], ends[1:], weights)

    judge = judged(two(1, np.eye(3)))
    assert isinstance(judge.comparison, Worst)
    assert [one.task for one in judge.recognized] == ["regression", "classification"]
    assert judge.drop(judge.evaluate(two(1, np.eye(3)))).value == 0
    number = judge.drop(judge.evaluate(two(1.2, np.eye(3))))
    assert number.value == pytest.approx(0.2, abs=0.01)
    assert number.probability_within(0.1) < 0.1
    assert judge.drop(judge.evaluate(two(1, -np.eye(3)))).value > 0.5


def test_the_ends_of_an_output_are_found_behind_what_moves_numbers():
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]),
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Concat", ["p", "s"], ["c"], axis=1),
        helper.make_node("Transpose", ["c"], ["y"], perm=[1, 0]),
    ]
    model = built(nodes, [value("x", TensorProto.FLOAT, ["n", 3])], [value("y", TensorProto.FLOAT, [6, "n"])])
    facts = facts_of(model)
    assert facts.outputs["y"].ends == ("Transpose", "Concat", "Softmax", "Sigmoid")
    assert facts.outputs["y"].shape == (6, "n")
    assert facts.operators == {"Softmax", "Sigmoid", "Concat", "Transpose"}


def branching(first: str, second: str):
    """Return a model whose output is a mean, in either branch of an If, of the operator named."""

    def branch(name, kind):
        nodes = [
            helper.make_node(kind, ["h"], [f"{name}_p"]),
            helper.make_node("ReduceMean", [f"{name}_p"], [f"{name}_y"], axes=[1], keepdims=1),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", 1, ["n", 1])])

    nodes = [
        helper.make_node("Neg", ["x"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["some"], to=TensorProto.BOOL),
        helper.make_node("If", ["some"], ["z"], then_branch=branch("then", first), else_branch=branch("else", second)),
        helper.make_node("Identity", ["z"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    return built(nodes, [value("x", TensorProto.FLOAT, ["n", 3])], [value("y", TensorProto.FLOAT, ["n", 1])])


@pytest.mark.parametrize(
    ("branches", "task"),
    [(("Sigmoid", "Sigmoid"), "multilabel"), (("Sigmoid", "Exp"), "regression"), (("Abs", "Abs"), "regression")],
)
def test_a_mean_of_probabilities_in_both_branches_is_a_probability(branches, task):
    assert [one.task for one in judged(branching(*branches)).recognized] == [task]


def test_the_users_word_reads_the_inputs_as_evidence_does():
    """The tokens read are the targets of perplexity, and padding is left out by the mask."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (4, 6))
    feeds = {"ids": ids, "attention_mask": np.ones((4, 6), np.int64)}
    scores = np.eye(9, dtype=np.float32)[np.roll(ids, -1, axis=1)]  # of the next token
    said = recognize({"y": scores}, feeds, ModelFacts(), TaskOptions(tasks=parse_tasks("tokens")))[0].comparison
    assert (said.tokens, said.mask) == ("ids", "attention_mask")


def test_a_task_that_reads_one_output_judges_each_output_that_fits():
    maps = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    two, feeds = {"a": maps, "table": TABLE, "b": maps}, {"x": np.zeros((4, 3, 8, 8), np.float32)}
    for text in ("a=segmentation,b=segmentation", "segmentation"):
        found = recognize(two, feeds, ModelFacts(), TaskOptions(tasks=parse_tasks(text)))
        judged_as = {one.outputs: one.task for one in found}
        assert judged_as[("a",)] == judged_as[("b",)] == "segmentation"


def test_all_heads_of_a_classifier_are_judged_and_its_features_are_not():
    outputs = {"features": np.zeros((4, 7, 3), np.float32), "age": TABLE, "gender": TABLE}
    found = recognize(outputs, FEEDS, ModelFacts(), TaskOptions(tasks=parse_tasks("classification")))
    assert [one.outputs for one in found] == [("age",), ("gender",)]


def test_an_output_that_does_not_fit_the_task_named_for_it_is_refused():
    with pytest.raises(DataError, match="ONX209"):
        recognize({"y": TABLE}, FEEDS, ModelFacts(), TaskOptions(tasks=parse_tasks("segmentation")))
    with pytest.raises(DataError, match="ONX209"):
        recognize({"y": TABLE, "z": TABLE}, FEEDS, ModelFacts(), TaskOptions(tasks=parse_tasks("z=tokens")))


def test_raw_scores_come_with_the_option_for_classes():
    """By number, classes are judged so strictly that hardly any INT8 model is within budget."""
    assert judged(linear(np.eye(3))).choice.endswith("(if columns are scores of classes: --task classification).")
    assert "--task" not in judged(linear(np.ones((3, 1)))).choice
