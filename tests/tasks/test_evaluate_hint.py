"""A score that is little better than a guess comes with its likely reason."""

from pathlib import Path

import numpy as np

from onnxopt.model_file import load, signature_of
from onnxopt.samples import open_samples
from onnxopt.tasks.evaluate import evaluate

MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"


def test_labels_one_off_and_right_ones():
    samples = open_samples("digits", signature_of(load(MODEL)))
    labels = np.asarray(samples.labels)
    right = evaluate(MODEL, "digits")
    assert right.hint == right.document.data["hint"] == ""
    wrong = evaluate(MODEL, "digits", labels=(labels + 1) % 10)
    assert wrong.value < 0.1
    assert "always naming the most frequent class of 10" in str(wrong)
    assert "--label-offset" in wrong.document.data["hint"]
