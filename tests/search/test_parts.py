"""Data in disjoint parts, and the batch that models are timed with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.errors import DataError, UsageError
from onnxopt.samples import Samples
from onnxopt.samples.rows import Rows
from onnxopt.search.parts import LEAST, split_parts, typical_feeds
from tests import builders

MODEL = builders.BUILDERS["gemm_mlp"]()


@settings(max_examples=40)
@given(st.integers(LEAST, 5000), st.integers(0, 100), st.booleans())
def test_parts_are_disjoint_and_the_proof_gets_the_most(count: int, seed: int, own_calibration: bool) -> None:
    samples = Samples.of(Rows("made", {"x": np.arange(count, dtype=np.float32).reshape(count, 1)}))
    other = Samples.of(Rows("other", {"z": np.zeros((5, 1), np.float32)})) if own_calibration else None
    parts = split_parts(samples, other, seed)
    chosen = [parts.search, parts.holdout] + ([] if own_calibration else [parts.calibration])
    indices = np.concatenate([part.indices for part in chosen])
    assert len(set(indices.tolist())) == len(indices) == count
    assert all(len(part) for part in chosen)
    assert len(parts.holdout) >= max(len(parts.search), 0 if own_calibration else len(parts.calibration))
    assert not own_calibration or parts.calibration is other
    again = split_parts(samples, other, seed)
    assert np.array_equal(again.holdout.indices, parts.holdout.indices)


@pytest.mark.parametrize("count", [1, LEAST - 1])
def test_too_few_samples_are_refused(count: int) -> None:
    with pytest.raises(DataError, match="ONX205"):
        split_parts(builders.samples_of(MODEL, count=count), None, 0)


@pytest.mark.parametrize(("batch", "rows"), [(1, 1), (4, 4), (100, 100)])
def test_typical_feeds_have_the_batch_size(batch: int, rows: int) -> None:
    assert typical_feeds(builders.samples_of(MODEL, count=40), batch)["x"].shape == (rows, 8)


def test_typical_feeds_of_a_fixed_batch_are_one_run() -> None:
    model = builders.BUILDERS["static_batch"]()
    assert typical_feeds(builders.samples_of(model, count=10), 8)["x"].shape == (1, 3, 8, 8)


def test_what_judges_is_left_out_of_the_calibration() -> None:
    values = np.arange(40, dtype=np.float32).reshape(40, 1)
    judged = Samples.of(Rows("judged", {"x": values[:30]}))
    parts = split_parts(judged, Samples.of(Rows("mixed", {"x": values[20:]})), seed=0)
    assert sorted(float(feeds["x"][0, 0]) for feeds in parts.calibration) == list(range(30, 40))
    with pytest.raises(UsageError, match=r"ONX115.*same samples"):
        split_parts(judged, Samples.of(Rows("copy", {"x": values[:30].copy()})), seed=0)
