"""Data asked for by name."""

import sys

import numpy as np
import pytest
from sample_signatures import DIGITS, PAIR, TABULAR, TEXT, VOICE, one
from sklearn.datasets import load_digits

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature
from onnxopt.samples import ReadOptions, open_samples


@pytest.mark.parametrize(
    "model", [DIGITS, one(None, 8, 8, 1), one(None, 64), one(None, 8, 8), one(None, None), one(1, 1, 8, 8)]
)
@pytest.mark.parametrize(("word", "part"), [("digits", slice(1000, None)), ("digits:train", slice(1000))])
def test_digits(model: Signature, word: str, part: slice) -> None:
    data, order = load_digits(), np.random.RandomState(0).permutation(1797)[part]
    samples = open_samples(word, model)
    assert len(samples) == len(order)
    np.testing.assert_array_equal(samples.labels, data.target[order])
    first = next(iter(samples))["x"]
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first[0].ravel(), data.data[order[0]].astype(np.float32) / 16)
    assert first.max() <= 1


@pytest.mark.parametrize("model", [TABULAR, PAIR, VOICE, one(None, 64, dtype="int64"), one(None, 3, "h", "w")])
def test_digits_do_not_fit(model: Signature) -> None:
    with pytest.raises(DataError, match=r"ONX203.*digits of 64 pixels"):
        open_samples("digits", model)


def test_missing_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UsageError, match=r'ONX108.*sklearn.*pip install "onnxopt\[digits\]"'):
        open_samples("digits", DIGITS)


@pytest.mark.parametrize("model", [DIGITS, PAIR, TEXT, VOICE, one(4, 3), one("seq", 3), one(None, 1, dtype="str")])
def test_random(model: Signature) -> None:
    samples = open_samples("random:8", model)
    assert len(samples) == 8
    assert samples.labels is None
    assert samples.fingerprint == open_samples("random:8", model).fingerprint
    assert len(open_samples("random", model)) == 64
    if model not in (VOICE, TEXT) and model.inputs[0].dtype == "float32":
        first, second = list(samples.with_batch_size(1))[:2] if not samples.fixed_batch else list(samples)[:2]
        assert (first[model.inputs[0].name] != second[model.inputs[0].name]).any()


def test_random_images_of_a_chosen_size() -> None:
    samples = open_samples("random:2", one(None, 3, "h", "w"), options=ReadOptions(size=(12, 10)))
    assert next(iter(samples))["x"].shape == (2, 3, 12, 10)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (one(None, 3, "h", "w"), (1, 3, 224, 224)),
        (one(None, None, None, 3), (1, 224, 224, 3)),
        (one(None, 3, 48, None), (1, 3, 48, 224)),
        (one(None, 3, 12, 10), (1, 3, 12, 10)),
        (one(None, 8, None, 16), (1, 8, 2, 16)),
    ],
)
def test_random_images_of_free_size_are_no_specks(model: Signature, shape: tuple[int, ...]) -> None:
    samples = open_samples("random:1", model).with_batch_size(1)
    assert next(iter(samples))["x"].shape == shape


@pytest.mark.parametrize("word", ["random:0", "random:x", "random:-3", "random:1.5"])
def test_random_of_no_number(word: str) -> None:
    with pytest.raises(UsageError, match=r"ONX101.*positive number"):
        open_samples(word, DIGITS)
