"""The level of answers that ignore the inputs, and the share of the outputs' variance that a candidate gives back."""

import math

import numpy as np
import pytest

from onnxopt.measure.chance import Chance, chance_of, explained
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.known_outputs import KnownOutputs
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file import signature_of
from onnxopt.options.runtime import Runtime
from onnxopt.samples import open_samples
from tests.builders import F, Net

CLASSES = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 16))


def identity(scale: float = 1.0, shift: float = 0.0):
    net = Net(1)
    scaled = net.node("Mul", "x", net.const(np.float32(scale)))
    net.node("Add", scaled, net.const(np.float32(shift)), out="y")
    return net.model([("x", F, ["batch", 4])], [("y", F, ["batch", 4])], opset=13)


def softmax():
    net = Net(1)
    net.node("Softmax", net.node("Mul", "x", net.const(np.float32(9))), out="y")
    return net.model([("x", F, ["batch", 4])], [("y", F, ["batch", 4])], opset=13)


def opened(model, inputs):
    samples = open_samples({"x": inputs.astype(np.float32)}, signature_of(model))
    judge = FidelityJudge(model, samples, Runtime())
    known = KnownOutputs(lambda: Session(model, Runtime()))
    return known, samples, chance_of(known, judge.comparison, samples)


def test_by_chance_as_many_classes_agree_as_follow_themselves() -> None:
    _, _, chance = opened(softmax(), np.eye(4)[CLASSES])
    assert chance.agreement == pytest.approx(np.mean(CLASSES[1:] == CLASSES[:-1]))


def test_the_variance_is_that_of_the_inputs() -> None:
    inputs = np.random.default_rng(1).standard_normal((64, 4))
    _, _, chance = opened(identity(), inputs)
    expected = np.square(np.diff(inputs.astype(np.float32), axis=0)).sum(axis=1).mean() / 2
    assert chance.variance == {"y": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize(("scale", "shift", "share"), [(1, 0, 1.0), (0, 0, 0.0), (0.5, 0, 0.75), (2, 0, 0.0)])
def test_what_a_candidate_gives_back_follows_from_its_error(scale: float, shift: float, share: float) -> None:
    inputs = np.random.default_rng(2).standard_normal((64, 4))
    inputs -= inputs.mean(axis=0)
    known, samples, chance = opened(identity(), inputs)
    found = explained(known, Session(identity(scale, shift), Runtime()), samples, chance)
    assert found == pytest.approx(share, abs=0.1)  # pairs of neighbours estimate the variance


def two_outputs(scale: float):
    net = Net(1)
    net.node("Mul", "x", net.const(np.float32(1)), out="same")
    net.node("Mul", "x", net.const(np.float32(scale)), out="scaled")
    return net.model([("x", F, ["batch", 4])], [(n, F, ["batch", 4]) for n in ("same", "scaled")], opset=13)


def test_the_worst_output_counts() -> None:
    known, samples, chance = opened(two_outputs(1), np.random.default_rng(2).standard_normal((64, 4)))
    assert explained(known, Session(two_outputs(0), Runtime()), samples, chance) == pytest.approx(0, abs=0.2)


def test_the_skill_is_one_for_equal_answers_and_zero_by_chance() -> None:
    chance = Chance(0.4, {})
    assert (chance.skill(1.0), chance.skill(0.4)) == (1.0, 0.0)
    assert chance.skill(0.7) == pytest.approx(0.5)


def test_where_all_answers_are_alike_nothing_can_be_said() -> None:
    _, _, chance = opened(softmax(), np.eye(4)[np.zeros(20, int)])
    assert chance.agreement == 1
    assert math.isnan(chance.skill(1.0))
    assert chance.variance == {}


def test_a_single_sample_has_no_chance_level() -> None:
    _, _, chance = opened(softmax(), np.eye(4)[:1])
    assert math.isnan(chance.agreement)
    assert math.isnan(chance.skill(1.0))
