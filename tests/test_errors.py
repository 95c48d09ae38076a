"""Errors: a stable code, one line, and what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt import errors
from onnxopt.errors import CODES, ExitCode, ModelError, OnnxoptError, UsageError, first_line, nearest

FAMILIES = {
    "1": errors.UsageError,
    "2": errors.DataError,
    "3": errors.ModelError,
    "4": errors.NativeError,
    "5": errors.FileError,
    "9": OnnxoptError,
}


@pytest.mark.parametrize("code", CODES)
def test_every_code(code: str) -> None:
    assert code.startswith("ONX")
    assert code[3:].isdecimal()
    assert len(code) == 6
    assert CODES[code]
    assert not CODES[code].endswith(".")
    error = FAMILIES[code[3]](code, "what", where="where", why="why", hint="Do this.")
    assert str(error) == f"{code}: what [where]: why. Do this."
    assert error.exit_code in set(ExitCode) - {ExitCode.OK}
    assert isinstance(error, OnnxoptError)


def test_codes_are_in_order() -> None:
    assert list(CODES) == sorted(CODES)


@pytest.mark.parametrize("code", ["ONX101", "ONX999", ""])
def test_a_code_of_another_family_is_a_bug(code: str) -> None:
    with pytest.raises(ValueError, match="ModelError has no code"):
        ModelError(code, "what")


def test_parts_that_are_missing_leave_no_marks() -> None:
    assert str(UsageError("ONX101", "what")) == "ONX101: what"
    assert str(UsageError("ONX101", "what", hint="Do this.")) == "ONX101: what. Do this."
    assert str(UsageError("ONX101", "what", why="why")) == "ONX101: what: why"


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("simplfy", ["simplify", "prune"], "Did you mean 'simplify'?"),
        ("zzz", ["simplify", "prune"], "Known: prune, simplify."),
    ],
)
def test_nearest(name: str, known: list[str], says: str) -> None:
    assert nearest(name, known) == says


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_nearest_always_names_something_known(name: str, known: list[str]) -> None:
    assert any(choice in nearest(name, known) or repr(choice) in nearest(name, known) for choice in known)


@given(st.text(), st.integers(10, 300))
def test_first_line_is_one_short_line(text: str, limit: int) -> None:
    line = first_line(ValueError(text), limit)
    assert line
    assert len(line) <= limit
    assert len(line.splitlines()) == 1


def test_first_line_skips_what_is_empty() -> None:
    assert first_line(ValueError("\n  \n  the cause \n trace")) == "the cause"
    assert first_line(KeyError()) == "KeyError"
