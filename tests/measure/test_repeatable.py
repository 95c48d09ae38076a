import numpy as np
import pytest
from measure_models import built, linear, samples_of
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.measure import repeatable
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.repeatable import Fresh, needs_fresh, seeded
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import to_bytes
from tests import builders

RUNTIME = Runtime()
X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
FEEDS = {"x": X[:4]}


def noisy(operator, scale=1.0, **attributes):
    """`operator(x) + scale * x`, in the way each operator draws."""
    value = helper.make_tensor_value_info
    constants = {"scale": np.float32(scale)}
    given = ["p"]
    if operator == "Dropout":
        given += ["ratio", "training"]
        constants |= {"ratio": np.float32(0.5), "training": np.array(True)}
    if operator == "Multinomial":
        attributes |= {"sample_size": 3, "dtype": TensorProto.INT32}
    if operator in ("RandomNormal", "RandomUniform"):
        given, attributes = [], attributes | {"shape": [1, 3]}
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["p"]),
        helper.make_node(operator, given, ["drawn"], name="draw", **attributes),
        helper.make_node("Cast", ["drawn"], ["noise"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "noise"], ["y"]),
    ]
    if operator == "Dropout":  # the runtime leaves it out where something follows
        nodes = [nodes[0], helper.make_node(operator, given, ["y"], name="draw", **attributes)]
    ends = [value(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    return built(nodes, ends[:1], ends[1:], constants)


@pytest.mark.parametrize("operator", sorted(repeatable.RANDOM))
def test_random_operators_are_repeatable_with_a_seed_and_a_session_for_each_run(operator):
    model = noisy(operator)
    session = Session(model, RUNTIME)
    assert not np.array_equal(session.named(FEEDS)["y"], session.named(FEEDS)["y"])
    assert needs_fresh(model, FEEDS, RUNTIME)
    fresh, other = Fresh(model, RUNTIME), Fresh(model, RUNTIME)
    first = fresh.named(FEEDS)["y"]
    np.testing.assert_array_equal(fresh.named(FEEDS)["y"], first)
    np.testing.assert_array_equal(other.named(FEEDS)["y"], first)


def test_a_model_without_random_operators_is_run_as_it_is():
    assert not needs_fresh(linear(np.eye(3)), FEEDS, RUNTIME)


def test_the_seed_is_in_a_copy_and_a_seed_of_the_model_is_kept():
    model = noisy("RandomNormalLike")
    before = to_bytes(model)
    copy = seeded(model)
    assert to_bytes(model) == before
    assert [n.attributes["seed"].as_float() for n in repeatable.random_nodes(copy)] == [float(repeatable.SEED)]
    own = seeded(noisy("RandomNormalLike", seed=7.0))
    assert [n.attributes["seed"].as_float() for n in repeatable.random_nodes(own)] == [7.0]


def test_a_random_model_agrees_with_itself_and_a_worse_one_does_not():
    judge = FidelityJudge(noisy("RandomNormalLike"), samples_of(X), RUNTIME)
    assert judge.drop(judge.evaluate(noisy("RandomNormalLike"))).value == 0
    assert judge.drop(judge.evaluate(noisy("RandomNormalLike", scale=1.5))).value > 0.1
    assert "fixed seed" in judge.choice


def test_a_model_that_stays_random_is_refused_with_the_operator(monkeypatch):
    monkeypatch.setattr(repeatable, "seeded", lambda model: model.clone())
    monkeypatch.setattr(Fresh, "run", Session.run)
    session = Session(noisy("RandomNormalLike"), RUNTIME)
    runs = iter(range(100))
    monkeypatch.setattr(Session, "named", lambda self, feeds: {"y": np.full((4, 3), float(next(runs)))})
    with pytest.raises(ModelError, match=r"ONX313.*RandomNormalLike draw"):
        needs_fresh(noisy("RandomNormalLike"), FEEDS, session.runtime)


class Loaded:
    """Counts how often a model is loaded; gives the outputs of `runs` one after the other."""

    runs = iter(())
    loads = 0

    def __init__(self, *_):
        type(self).loads += 1

    def named(self, _):
        return next(type(self).runs)


def twice(monkeypatch, one, other, model=None):
    """Return whether a model that gives these outputs in turn is run as it is, and how often it is loaded."""
    kind = type("OneModel", (Loaded,), {"runs": iter([one, other, one, other]), "loads": 0})
    monkeypatch.setattr(repeatable, "Session", kind)
    try:
        fresh = needs_fresh(model or builders.BUILDERS["gemm_mlp"](), FEEDS, RUNTIME)
    except ModelError:
        return False, kind.loads
    return not fresh, kind.loads


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([1.0], [1.0], True),
        ([1.0], [2.0], False),
        ([{"cat": 0.5}], [{"cat": 0.5}], True),
        ([{"cat": 0.5}], [{"cat": 0.25}], False),
        (np.array([1_000_000]), np.array([1_000_001]), False),
        (np.array(["a"]), np.array(["a"]), True),
        (np.array([100.0, 100.0]), np.array([100.005, 100.0]), True),
        (np.array([100.0, 100.0]), np.array([100.02, 100.0]), False),
        (np.array([0.0, 2.0, -2.0]), np.array([0.001, 2.0, -2.0]), True),
        (np.array([0.0, 2.0, -2.0]), np.array([0.01, 2.0, -2.0]), False),
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf]), True),
        (np.array([np.nan, np.inf]), np.array([0.0, np.inf]), False),
        (np.zeros(2), np.zeros((2, 1)), False),
    ],
)
def test_two_runs_are_the_same_up_to_the_order_of_additions(monkeypatch, one, other, same):
    assert twice(monkeypatch, {"y": one}, {"y": other}) == (same, 1)
    assert twice(monkeypatch, {"x": np.ones(2), "y": one}, {"x": np.ones(2), "y": other}) == (same, 1)


def test_a_model_is_loaded_again_only_if_an_operator_may_be_random(monkeypatch):
    model = builders.BUILDERS["gemm_mlp"]()
    zeros = {"y": np.zeros(2)}
    assert twice(monkeypatch, zeros, zeros, model) == (True, 1)
    model.graph.node(1).domain = "com.example"
    assert twice(monkeypatch, zeros, zeros, model) == (True, 2)
