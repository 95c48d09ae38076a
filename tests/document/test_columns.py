"""Tables fit the terminal, and words in them stay whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.document.blocks import Column, Document, Table
from onnxopt.document.columns import LONGEST, widths, wrapped
from onnxopt.document.terminal import to_text

TABLE = Table(
    (Column("candidate"), Column("p50 ms", number=True), Column("drop, points", number=True), Column("verdict")),
    (
        ("static-percentile", "0.0601\nwas 0.0911", "-0.50\n-2.14..0.75", "not proven\non hold-out part"),
        ("/encoder/layer.0/attention/MatMul", "1.25", "-", "winner"),
    ),
)


@pytest.mark.parametrize("width", [40, 48, 60, 80, 120])
def test_no_line_is_too_long_and_no_word_is_cut(width):
    text = to_text(Document((TABLE,)), width=width)
    assert max(map(len, text.splitlines())) <= width
    words = text.replace("\n", " ").split()
    assert "percentile" in words or "static-percentile" in words
    for number in ("0.0601", "1.25"):
        assert number in words
    assert "winner" in words


def test_a_narrow_terminal_gets_one_line_for_each_cell():
    lines = to_text(Document((TABLE,)), width=40).splitlines()
    assert lines[:4] == [
        "static-percentile",
        "  p50 ms: 0.0601 (was 0.0911)",
        "  drop, points: -0.50 (-2.14..0.75)",
        "  verdict: not proven (on hold-out part)",
    ]


def test_an_interval_keeps_one_pair_of_brackets():
    table = Table(
        (Column("model " * 5), Column("speed-up " * 5, number=True)), (("m" * 24, "1.61x\n[1.59, 1.62]" * 3),)
    )
    assert "([" not in to_text(Document((table,)), width=40)


@given(st.text(alphabet="ab-/ ", max_size=60), st.integers(LONGEST, 60))
def test_wrapping_loses_nothing_but_spaces(text, width):
    lines = wrapped(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= width for line in lines)


@given(st.integers(10, 200))
def test_columns_fit_or_there_are_none(room):
    found = widths(TABLE, room, 2)
    assert found is None or sum(found) + 2 * 3 <= room
