"""A score that is little better than guessing comes with its likely reason."""

from pathlib import Path

import numpy as np
import pytest

from onnxopt.measure.metrics.classification import TopK
from onnxopt.model_file import load, signature_of
from onnxopt.samples import open_samples
from onnxopt.tasks.evaluate import evaluate, near_guessing

MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"


def test_labels_one_off_and_right_ones():
    samples = open_samples("digits", signature_of(load(MODEL)))
    labels = np.asarray(samples.labels)
    right = evaluate(MODEL, "digits")
    assert right.hint == right.document.data["hint"] == ""
    wrong = evaluate(MODEL, "digits", labels=(labels + 1) % 10)
    assert wrong.value < 0.1
    assert "little better than guessing among 10 classes" in str(wrong)
    assert "--label-offset" in wrong.document.data["hint"]


@pytest.mark.parametrize(
    ("metric", "value", "labels", "low"),
    [
        (TopK(), 0.30, np.arange(10).repeat(9), True),
        (TopK(), 0.40, np.arange(10).repeat(9), False),
        (TopK(), 0.95, np.array([0] * 95 + [1] * 5), True),
        (TopK(), 0.97, np.array([0] * 95 + [1] * 5), False),
        (TopK(k=5), 0.30, np.arange(10).repeat(9), False),
        (TopK(), 0.30, np.zeros(9, np.int64), False),
        (TopK(), 0.30, None, False),
    ],
)
def test_guessing_is_the_most_frequent_class(metric, value, labels, low):
    assert bool(near_guessing(metric, value, labels)) == low
