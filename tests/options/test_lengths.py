import pytest

from onnxopt.errors import UsageError
from onnxopt.options.lengths import MOST_RUNS, lengths_of, runs_of, words_of


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("128:0.3,1:0.7", {128: 0.3, 1: 0.7}),
        ("128:3, 1:7", {128: 0.3, 1: 0.7}),
        ("16", {16: 1.0}),
        ("16,64", {16: 0.5, 64: 0.5}),
    ],
)
def test_shares_add_up_to_one(text: str, shares: dict[int, float]) -> None:
    assert lengths_of(text) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no length"),
        ("128:0.3,1", "some lengths have a share, and others have none"),
        ("0:1,2:1", "a share has to be positive|'0' is no length"),
        ("-4", "'-4' is no length"),
        ("1.5", "'1.5' is no length"),
        ("8:x", "'x' is no number"),
        ("8:0,4:1", "a share has to be positive"),
        ("8:nan", "a share has to be positive"),
        ("8:inf", "a share has to be positive"),
        ("8:1,8:2", "8 is given twice"),
        ("8:1,4:1000", f"a share is below one in {MOST_RUNS}"),
    ],
)
def test_a_text_of_another_form_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"ONX101.*({why})"):
        lengths_of(text)


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("128:0.3,1:0.7", {128: 9, 1: 21}),
        ("8", {8: 32}),
        ("8:0.02,1:0.98", {8: 1, 1: 49}),
        ("4,5,6", {4: 10, 5: 10, 6: 10}),
    ],
)
def test_runs_keep_the_shares(text: str, runs: dict[int, int]) -> None:
    assert runs_of(lengths_of(text), 32) == runs


def test_shares_that_no_number_of_runs_keeps_are_nearly_kept() -> None:
    shares = lengths_of("1:0.9871,9:0.0129")
    runs = runs_of(shares, 32)
    assert runs[9] / sum(runs.values()) == pytest.approx(shares[9], rel=0.02)


def test_shares_as_a_phrase() -> None:
    assert words_of(lengths_of("128:0.3,1:0.7")) == "128 (30% of the runs) and 1 (70% of the runs)"
