"""Made-up inputs of models as Transformers exports them, and the fallback where the names say nothing."""

import numpy as np
import pytest

from onnxopt.errors import UsageError
from onnxopt.measure.runtime.session import Session
from onnxopt.options.runtime import Runtime
from onnxopt.tasks.variants.made_up import COUNT, LENGTH, made_up_samples
from tests.builders import I64, F, Net
from tests.tasks.variants.published import ROWS, decoder, encoder


def test_token_numbers_are_of_the_whole_table_and_nothing_is_masked() -> None:
    samples = made_up_samples(encoder(), Runtime())
    assert len(samples) == COUNT
    feeds = next(iter(samples.with_batch_size(COUNT)))
    assert feeds["input_ids"].shape == (COUNT, LENGTH)
    assert set(np.unique(feeds["input_ids"])) == set(range(ROWS))
    assert feeds["attention_mask"].min() == 1


def test_a_cache_is_empty_and_positions_count_up() -> None:
    model = decoder()
    samples = made_up_samples(model, Runtime())
    feeds = next(iter(samples.with_batch_size(2)))
    assert feeds["past_key_values.0.key"].shape == (2, 0, 8)
    assert feeds["attention_mask"].shape == (2, LENGTH)
    np.testing.assert_array_equal(feeds["position_ids"], [np.arange(LENGTH)] * 2)
    logits, present = Session(model, Runtime()).run(feeds)
    assert np.isfinite(logits).all()
    assert present.shape == (2, LENGTH, 8)


def test_the_same_inputs_are_made_up_again() -> None:
    first, second = (next(iter(made_up_samples(decoder(), Runtime()))) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_where_the_names_mislead_inputs_are_random() -> None:
    # A table of 4 rows behind a node that is no look-up of the input itself: only 0 and 1 are safe.
    net = Net(1)
    doubled = net.node("Add", "input_ids", "input_ids")
    net.node("Gather", net.weight(4, 3), doubled, axis=0, out="y")
    model = net.model([("input_ids", I64, ["batch", 2])], [("y", F, ["batch", 2, 3])], opset=13)
    feeds = next(iter(made_up_samples(model, Runtime())))
    assert feeds["input_ids"].max() <= 1
    fixed = Net(2)
    fixed.node("Add", "mask", fixed.const(np.ones((2, 2), np.float32)), out="y")
    odd = fixed.model([("mask", F, ["past", "past"])], [("y", F, ["a", "b"])], opset=13)
    assert made_up_samples(odd, Runtime()).name == "random"


def test_a_model_that_runs_on_none_says_that_samples_are_needed() -> None:
    net = Net(1)
    net.node("Add", "x", net.const(np.ones((1, 977), np.float32)), out="y")
    model = net.model([("x", F, ["batch", "width"])], [("y", F, ["batch", 977])], opset=13)
    with pytest.raises(UsageError, match=r"ONX114.*--data"):
        made_up_samples(model, Runtime())


def test_a_limit_is_heeded() -> None:
    assert len(made_up_samples(encoder(), Runtime(), 5)) == 5
