"""Budgets as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.errors import UsageError
from onnxopt.search.budget import Budget


@pytest.mark.parametrize(
    ("text", "limit", "relative"),
    [
        ("1pp", 0.01, False),
        ("1%", 0.01, True),
        ("0.01", 0.01, False),
        (".5pp", 0.005, False),
        ("0", 0.0, False),
        ("0.5 %", 0.005, True),
        (" 2 pp ", 0.02, False),
        ("1e-3", 0.001, False),
        ("100%", 1.0, True),
    ],
)
def test_what_can_be_read(text: str, limit: float, relative: bool) -> None:
    budget = Budget.parse(text)
    assert budget.limit == pytest.approx(limit)
    assert budget.relative is relative


@pytest.mark.parametrize(
    "text", ["", "pp", "%", "-1pp", "-0.01", "1 point", "one", "1,5%", "nan", "inf", "1pp%", "1e999"]
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match="ONX101") as caught:
        Budget.parse(text)
    assert "1pp" in caught.value.hint


@given(st.floats(0, 10), st.floats(-100, 100))
def test_what_is_allowed(limit: float, score: float) -> None:
    assert Budget(limit).allowed(score) == limit
    assert Budget(limit, relative=True).allowed(score) == pytest.approx(limit * abs(score))


@given(st.text(alphabet="0123456789.eE-+p% ", max_size=8) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    budget = parsed(text)
    assert budget is None or budget.limit >= 0


def parsed(text: str) -> Budget | None:
    """Return the budget, or None for our refusal; any other exception passes through."""
    try:
        return Budget.parse(text)
    except UsageError:
        return None


@pytest.mark.parametrize(
    ("given_text", "bounded", "text"),
    [
        (None, True, "1pp"),
        (None, False, "1%"),
        ("2pp", True, "2pp"),
        ("2%", False, "2%"),
        ("5", False, "5"),
        (0.02, True, "0.02"),
        ("0", True, "0"),
        ("99pp", True, "99pp"),
    ],
)
def test_the_budget_of_a_metric(given_text: str | float | None, bounded: bool, text: str) -> None:
    budget = Budget.of(given_text, "metric", bounded=bounded)
    assert str(budget) == text
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("given_text", "bounded", "why", "hints"),
    [
        ("1", True, "100 points", ("1pp", "1%")),
        (2.5, True, "250 points", ("2.5pp", "2.5%")),
        ("1pp", False, "rmse is not a share", ("1%", "metric's unit")),
        ("0.5pp", False, "rmse is not a share", ("0.5%",)),
    ],
)
def test_a_budget_that_cannot_be_meant(given_text: str | float, bounded: bool, why: str, hints: tuple[str]) -> None:
    with pytest.raises(UsageError, match="ONX101") as caught:
        Budget.of(given_text, "rmse", bounded=bounded)
    assert why in caught.value.why
    assert all(hint in caught.value.hint for hint in hints)
