"""Further figures of a metric reach the user."""

import numpy as np

from onnxopt.measure.accuracy import evaluation_of
from onnxopt.measure.tasks.sequence.agreement import TextAgreement
from onnxopt.measure.tasks.sequence.decoding import Decoding
from onnxopt.measure.tasks.signal import SignalAgreement
from onnxopt.measure.tasks.worst import Worst
from onnxopt.report.details import details_rows
from onnxopt.report.recording import score_record


def texts(*numbers):
    return {"y": np.eye(5, dtype=np.float32)[np.array(numbers)], "z": np.ones((len(numbers), 64), np.float32)}


def evaluated(comparison, before, after):
    return evaluation_of(comparison, comparison.compare(before, after, 2, {}), 0)


def test_the_error_rate_is_recorded_and_shown_beside_the_share_of_same_texts():
    before, after = texts([1, 2, 3, 4], [1, 2, 3, 4]), texts([1, 2, 3, 4], [1, 2, 3, 3])
    text = TextAgreement("y", Decoding(0, 0))
    both = [evaluated(text, before, one) for one in (before, after)]
    assert score_record(both[1]).details == {"character error rate against the baseline": 0.125}
    assert list(details_rows(*both)) == [("character error rate against the baseline", "0", "0.125", "", "2")]


def test_the_figures_of_each_output_are_named_by_it():
    both = texts([1, 2, 3, 4], [1, 2, 3, 4])
    worst = Worst((TextAgreement("y", Decoding(0, 0)), SignalAgreement("z", "sound", 1)), ("y", "z"))
    same = evaluated(worst, both, both)
    assert same.details["y: character error rate against the baseline"] == 0
    assert "z: SI-SDR, dB" in same.details
