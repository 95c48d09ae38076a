"""The mutation test names functions that exist, with tests that exist."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        yield importlib.import_module("mutants")
    finally:
        sys.path.remove(str(ROOT / "bench"))


def test_every_guard_and_its_tests_exist(bench: ModuleType) -> None:
    for guard in bench.GUARDS:
        found = dict(bench.functions(ast.parse((ROOT / "onnxopt" / guard.file).read_text())))
        assert set(guard.names) <= set(found), guard.file
        assert all((ROOT / "tests" / test).is_file() for test in guard.tests), guard.file


def test_a_number_is_changed_both_ways_and_a_comparison_at_its_limit(bench: ModuleType) -> None:
    source = "def keep(new, old):\n    return new < 0.5 * old\n"
    found = [text.splitlines()[-1].strip() for _, text in bench.mutants(source, ("keep",))]
    assert found == ["return new <= 0.5 * old", "return new < 1.5 * old", "return new < -0.5 * old"]
    assert [bench._is_number(words) for words, _ in bench.mutants(source, ("keep",))] == [False, True, True]
