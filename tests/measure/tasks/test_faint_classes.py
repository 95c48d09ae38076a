"""Of a thousand classes most are never the answer: none may be lost, and noise loses none."""

import numpy as np
import pytest
from test_table_damages import lost

from onnxopt.measure.tasks.table.columns import column_rows
from onnxopt.measure.tasks.table.lost import log_shares, lost_faint

SAMPLES, CLASSES = 200, 1000


def scores(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(SAMPLES, 6)) @ rng.normal(size=(6, CLASSES)) + rng.normal(size=CLASSES)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("damage", ["swapped", "zeroed", "scaled"])
@pytest.mark.parametrize("seed", range(4))
def test_a_class_that_is_never_the_answer_cannot_be_lost(kind, damage, seed):
    before = scores(seed) if kind == "logits" else softmax(scores(seed))
    never = np.flatnonzero(np.bincount(before.argmax(axis=1), minlength=CLASSES) == 0)[:2]
    after = before.copy()
    after[:, never] = {"swapped": before[:, never[::-1]], "zeroed": 0, "scaled": 1.5 * before[:, never]}[damage]
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > (0.9 if damage == "scaled" else 0.98)
    assert lost(before, after, "classification", SAMPLES).value > 0.4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [1.0, 1.1])
def test_noise_and_another_temperature_lose_no_class(seed, temperature):
    logits = 3 * np.eye(CLASSES)[np.random.default_rng(seed).integers(0, CLASSES, SAMPLES)] * 9 + scores(seed)
    noise = 0.1 * logits.std() * np.random.default_rng(seed + 1).normal(size=logits.shape)
    assert lost(softmax(logits), softmax((logits + noise) / temperature), "classification", SAMPLES).value < 0.05


def test_a_quantized_softmax_shows_nothing_below_its_step_and_loses_no_class():
    before = softmax(2 * scores(0))
    after = np.round(before * 256) / 256
    same = (before.argmax(axis=1) == after.argmax(axis=1)).mean()
    assert lost(before, after, "classification", SAMPLES).value == pytest.approx(1 - same)


def test_two_classes_below_the_step_of_a_quantized_softmax_are_not_lost():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.2, 1.8, (SAMPLES, 40)) / 40
    before[:, :2] = rng.uniform(0.0001, 0.0005, (SAMPLES, 2))
    before /= before.sum(axis=1, keepdims=True)
    after = np.round(before * 512) / 512
    assert (after[:, :2] == 0).all()
    assert lost_faint(column_rows(*log_shares(before[:, None], after[:, None]))) == 0
