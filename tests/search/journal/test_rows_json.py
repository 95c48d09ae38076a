"""Rows of every kind come back as they were; those of a user's own metric are not stored."""

import json

import numpy as np
import pytest

from onnxopt.measure.metrics.user_metric import user_metric
from onnxopt.measure.tasks.detection.average_precision import average_precision, records_array
from onnxopt.measure.tasks.detection.boxes import Detections
from onnxopt.measure.tasks.detection.matching import Truth, record_of
from onnxopt.search.journal.rows_json import restored_rows, stored_rows

RNG = np.random.default_rng(0)


def _again(rows: np.ndarray) -> np.ndarray:
    return restored_rows(json.loads(json.dumps(stored_rows(rows))))


def _boxes(count: int) -> Detections:
    corners = RNG.uniform(0, 50, (count, 2))
    boxes = np.hstack([corners, corners + RNG.uniform(5, 40, (count, 2))])
    return Detections(boxes, np.sort(RNG.uniform(size=count))[::-1].copy(), RNG.integers(0, 3, count))


def test_numbers():
    rows = RNG.standard_normal((7, 3)).astype(np.float32)
    again = _again(rows)
    assert again.dtype == rows.dtype
    np.testing.assert_array_equal(again, rows)


def test_several_outputs_per_sample():
    rows = np.empty((5, 2), dtype=object)
    for sample in range(5):
        rows[sample, 0], rows[sample, 1] = RNG.standard_normal(3), RNG.standard_normal(4)
    again = _again(rows)
    assert again.shape == rows.shape
    for one, other in zip(again.flat, rows.flat, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_of_one_form_are_one_array():
    rows = np.empty((500, 2), dtype=object)
    for place in np.ndindex(rows.shape):
        rows[place] = np.ones(2)
    assert len(json.dumps(stored_rows(rows))) < 500 * 2 * 2 * 8 * 1.5
    np.testing.assert_array_equal(np.stack(list(_again(rows).flat)), np.ones((1000, 2)))


@pytest.mark.parametrize("nested", [False, True])
def test_boxes(nested):
    records = [record_of(_boxes(n), Truth.found_by(_boxes(n + 1))) for n in (4, 0, 9, 1)]
    rows = records_array(records)
    kept = rows
    if nested:  # beside another output
        kept = np.empty((4, 2), dtype=object)
        for sample in range(4):
            kept[sample, 0], kept[sample, 1] = rows[sample], np.ones(sample + 1)
    again = _again(kept)
    back = np.stack(list(again[:, 0])) if nested else again
    counts = np.ones((1, 4))
    np.testing.assert_array_equal(
        average_precision(back[:, 0], counts, slice(None)), average_precision(rows[:, 0], counts, slice(None))
    )
    for one, other in zip(back[:, 0], rows[:, 0], strict=True):
        assert list(one) == list(other)
        for c in one:
            assert one[c].wanted == other[c].wanted
            for name in ("scores", "right", "ignored"):
                before, after = getattr(other[c], name), getattr(one[c], name)
                assert before.dtype == after.dtype
                np.testing.assert_array_equal(after, before)


def test_whole_outputs_are_not_stored(tmp_path):
    code = tmp_path / "own.py"
    code.write_text("def share(outputs, labels):\n    return 1.0\n")
    rows = user_metric(f"{code}:share").rows({"y": np.ones((3, 2))}, np.zeros(3))
    assert stored_rows(rows) is None


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"shape": [1], "cells": [{"shape": [1], "cells": [{"shape": [1], "cells": [{"shape": [1], "cells": []}]}]}]},
        {"shape": [3], "cells": []},
        {"boxes": [[1, "AAAA", "AAAA", "AAAA", 1]]},
        {"boxes": []},
        None,
    ],
)
def test_damaged_rows_are_refused(found):
    with pytest.raises((ValueError, KeyError, TypeError)):
        restored_rows(found)
