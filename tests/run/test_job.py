"""The metric that the form of the labels asks for."""

import numpy as np
import pytest

from onnxopt.model_file import Signature, TensorSpec
from onnxopt.run.job import choose_metric


def boxes():
    labels = np.empty(2, object)
    labels[:] = ["boxes", "of images"]
    return labels


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (np.array([0, 2, 1]), "top1"),
        (np.array([0.0, 2.0, 1.0]), "top1"),
        (np.array([0.5, 2.0, 1.0]), "rmse"),
        (np.array(["a word", "another"]), "exact"),
        (np.zeros((2, 8, 8), np.int64), "miou"),
        (np.zeros((2, 8, 8), np.float32), "top1"),
        (boxes(), "ap"),
    ],
)
def test_labels_ask_for_a_metric_by_their_form(labels, name):
    assert choose_metric(None, labels, output=None, threshold=0.5).name == name
    assert choose_metric("fidelity", labels, output=None, threshold=0.5) is None


def test_names_that_the_model_gives_itself_are_classes():
    named = Signature((), (TensorSpec("label", "str", (None,)),))
    assert (
        choose_metric(None, np.array(["cat", "dog"]), output=None, threshold=0.5, tasks=None, signature=named).name
        == "top1"
    )
