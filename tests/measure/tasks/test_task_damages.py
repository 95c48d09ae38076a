"""A candidate with one column scaled, two swapped, or one lost is inside no budget, whatever the task."""

import numpy as np
import pytest
from judged import lost
from scipy.ndimage import gaussian_filter

from onnxopt.measure.tasks.embedding import EmbeddingAgreement
from onnxopt.measure.tasks.segmentation import SegmentationAgreement
from onnxopt.measure.tasks.segmentation.maps import MapReading
from onnxopt.measure.tasks.sequence import StepAgreement, TextAgreement
from onnxopt.measure.tasks.sequence.decoding import Decoding
from onnxopt.measure.tasks.signal import SignalAgreement
from onnxopt.measure.tasks.tokens import TokenAgreement

BUDGET = 0.01


def fields(n, channels, *size, smooth=2.0, seed=0):
    """Smooth random maps of unit spread, as a network's scores over an image."""
    noise = np.random.default_rng(seed).normal(size=(n, channels, *size))
    maps = gaussian_filter(noise, (0, 0, *[smooth] * len(size)))
    return (maps / maps.std()).astype(np.float32)


def text_scores(n=60, steps=24, classes=9):
    rng = np.random.default_rng(1)
    truth = np.where(rng.random((n, steps)) < 0.5, 0, rng.integers(1, classes, (n, steps)))
    return (rng.normal(size=(n, steps, classes)) + 3 * np.eye(classes)[truth]).astype(np.float32)


def tag_scores(n=60, steps=24, classes=6):
    rng = np.random.default_rng(2)
    truth = np.where(rng.random((n, steps)) < 0.9, 0, rng.integers(1, classes, (n, steps)))
    return (rng.normal(size=(n, steps, classes)) + 3 * np.eye(classes)[truth]).astype(np.float32)


def token_scores(n=20, steps=30, classes=12):
    rng = np.random.default_rng(3)
    return (rng.normal(size=(n, steps, classes)) * 2).astype(np.float32)


def vectors(n=200, width=48):
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(10, width))
    return (centres[rng.integers(0, 10, n)] + rng.normal(size=(n, width))).astype(np.float32)


def maps():
    return (1 / (1 + np.exp(-2 * fields(20, 3, 20, 20) + 1))).astype(np.float32)


TASKS = {
    "scores": (SegmentationAgreement("y", MapReading("scores")), lambda: fields(20, 5, 20, 20), 1),
    "scores last": (
        SegmentationAgreement("y", MapReading("scores", -1)),
        lambda: np.moveaxis(fields(20, 5, 20, 20), 1, -1),
        3,
    ),
    "binary maps": (SegmentationAgreement("y", MapReading("binary")), maps, 1),
    "text": (TextAgreement("y", Decoding(0, 0)), text_scores, 2),
    "time-major text": (TextAgreement("y", Decoding(1, 0)), lambda: text_scores().transpose(1, 0, 2), 2),
    "steps": (StepAgreement("y", Decoding()), tag_scores, 2),
    "embedding": (EmbeddingAgreement("y"), vectors, 1),
    "stems": (SignalAgreement("y", "sound"), lambda: fields(20, 3, 800), 1),
    "stems by spectrum": (SignalAgreement("y", "sound", domain="spectrum"), lambda: fields(20, 3, 800), 1),
    "image": (SignalAgreement("y", "image"), lambda: 128 + 40 * fields(20, 3, 20, 20), 1),
    "image last": (SignalAgreement("y", "image", -1), lambda: np.moveaxis(fields(20, 3, 20, 20), 1, -1), 3),
    "tokens": (TokenAgreement("y"), token_scores, 2),
}


def scaled(outputs, column):
    outputs[..., column] *= 1.5


def swapped(outputs, column):
    other = (column + 1) % outputs.shape[-1]
    outputs[..., [column, other]] = outputs[..., [other, column]]


def zeroed(outputs, column):
    outputs[..., column] = 0


@pytest.mark.parametrize("damage", [scaled, swapped, zeroed])
@pytest.mark.parametrize("task", TASKS)
def test_no_damage_to_a_column_is_inside_the_budget(task, damage):
    comparison, make, axis = TASKS[task]
    before = make()
    assert lost(comparison, before, before).value == 0
    for column in range(0, before.shape[axis], max(1, before.shape[axis] // 3)):
        after = before.copy()
        damage(np.moveaxis(after, axis, -1), column)
        result = lost(comparison, before, after)
        assert not result.within(BUDGET), column
        assert result.probability_within(BUDGET) < 0.05, column


def test_a_mono_signal_that_is_louder_is_outside_the_budget():
    before = fields(20, 1, 800)
    assert not lost(SignalAgreement("y", "sound"), before, 1.5 * before).within(BUDGET)


@pytest.mark.parametrize("task", TASKS)
def test_rounding_is_inside_the_budget(task):
    comparison, make, _ = TASKS[task]
    before = make()
    after = before + (1e-6 * np.random.default_rng(9).normal(size=before.shape)).astype(np.float32)
    assert lost(comparison, before, after).within(BUDGET)
