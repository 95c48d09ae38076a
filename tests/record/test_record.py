import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from onnxopt.record.analysis import ClassesRecord
from onnxopt.record.run import RunRecord, SettingsRecord
from onnxopt.record.trial import DropRecord, IntervalRecord, ScoreRecord

numbers = st.floats() | st.none()
intervals = st.builds(IntervalRecord, low=numbers, value=numbers, high=numbers, level=st.floats(0, 1))
counts = st.integers(0, 10**9)


@given(
    st.builds(ScoreRecord, value=numbers, interval=intervals, n=counts, non_finite=counts)
    | st.builds(
        DropRecord,
        value=numbers,
        interval=intervals,
        n=counts,
        better=counts | st.none(),
        worse=counts | st.none(),
        p_value=st.floats(0, 1) | st.none(),
        broken=st.booleans(),
    )
)
def test_records_survive_json(record):
    text = record.model_dump_json()
    assert type(record).model_validate_json(text) == record
    jsonschema.validate(json.loads(text), type(record).model_json_schema())


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError, match="extra"):
        IntervalRecord.model_validate({"low": 0.0, "value": 0.0, "high": 0.0, "level": 0.95, "width": 1.0})


def test_the_schema_is_closed_and_versioned():
    schema = RunRecord.model_json_schema()
    assert schema["additionalProperties"] is False
    objects = [part for part in schema["$defs"].values() if part["type"] == "object"]
    assert all(part["additionalProperties"] is False for part in objects)
    assert schema["properties"]["schema_version"]["const"] == 3


def test_settings_of_a_record_older_than_an_option_are_those_of_its_time():
    always = {"max_drop": "1pp", "goal": "size", "confidence": 0.9, "target": "auto", "provider": "cpu", "threads": 1}
    always |= {"optimization": "all", "session_options": {}, "batch_size": 1, "latency_s": 1.0, "seed": 0}
    older = SettingsRecord.model_validate(always).model_dump(mode="json")
    assert older["require"] is None
    assert (older["hot"], older["prune"], older["time_limit_s"], older["goal"]) == (False, False, None, "size")


SQUARE = ((3, 1), (0, 4))


@pytest.mark.parametrize(
    ("samples", "before", "after", "why"),
    [
        ((4, 4), SQUARE, ((3, 1), (0,)), "after is no table of 2 by 2"),
        ((4, 4), ((3, 1),), SQUARE, "before is no table of 2 by 2"),
        ((4, 4), SQUARE, ((3, 1), (0, 4, 0)), "after is no table of 2 by 2"),
        ((4,), SQUARE, SQUARE, "1 numbers of samples for 2 classes"),
    ],
)
def test_results_by_class_have_a_place_for_each_class(samples, before, after, why) -> None:
    """A page draws them: a damaged record is refused where it is read."""
    ClassesRecord(labelled=True, labels=("a", "b"), samples=(4, 4), before=SQUARE, after=SQUARE)
    with pytest.raises(ValueError, match=why):
        ClassesRecord(labelled=True, labels=("a", "b"), samples=samples, before=before, after=after)
