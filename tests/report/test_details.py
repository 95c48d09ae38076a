"""Further figures of a metric reach the user."""

import numpy as np

from onnxopt.measure.accuracy import evaluation_of
from onnxopt.measure.tasks.sequence.agreement import TextAgreement
from onnxopt.measure.tasks.sequence.decoding import Decoding
from onnxopt.measure.tasks.signal import SignalAgreement
from onnxopt.measure.tasks.worst import Worst
from onnxopt.record.trial import DropRecord, IntervalRecord, ScoreRecord
from onnxopt.report.details import details_rows, evened_sentence


def texts(*numbers):
    return {"y": np.eye(5, dtype=np.float32)[np.array(numbers)], "z": np.ones((len(numbers), 64), np.float32)}


def evaluated(comparison, before, after):
    return evaluation_of(comparison, comparison.compare(before, after, 2, {}), 0)


def test_the_error_rate_is_recorded_and_shown_beside_the_share_of_same_texts():
    before, after = texts([1, 2, 3, 4], [1, 2, 3, 4]), texts([1, 2, 3, 4], [1, 2, 3, 3])
    text = TextAgreement("y", Decoding(0, 0))
    both = [evaluated(text, before, one) for one in (before, after)]
    assert ScoreRecord.model_validate(both[1]).details == {"character error rate against the baseline": 0.125}
    assert list(details_rows(*both)) == [("character error rate against the baseline", "0", "0.125", "", "2")]


def test_the_figures_of_each_output_are_named_by_it():
    both = texts([1, 2, 3, 4], [1, 2, 3, 4])
    worst = Worst((TextAgreement("y", Decoding(0, 0)), SignalAgreement("z", "sound", 1)), ("y", "z"))
    same = evaluated(worst, both, both)
    assert same.details["y: character error rate against the baseline"] == 0
    assert "z: SI-SDR, dB" in same.details


def test_gains_and_losses_are_said_apart_and_losses_beyond_the_budget_by_name():
    nothing = IntervalRecord(low=0, value=0, high=0, level=0.95)
    even = DropRecord(value=-0.1, interval=nothing, n=60, better=13, worse=7, p_value=None, broken=False, gross=0.117)
    text = evened_sentence(even, 0.01, "share")
    assert "Of 60 samples 13 got better and 7 got worse" in text
    assert "the loss without the gains is 11.70 points (budget 1.00)" in text
    assert "nothing is proven" in text
    assert "proven" not in evened_sentence(even, 0.2, "share")
    assert not evened_sentence(even.model_copy(update={"gross": None}), 0.01, "share")
