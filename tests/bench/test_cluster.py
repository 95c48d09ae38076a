"""The tables of docs/cluster.md are what the bench measured."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured():
    pytest.importorskip("distributed")
    found = json.loads(sorted((ROOT / "bench/results").glob("*-cluster.json"))[-1].read_text())
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        module = importlib.import_module("cluster")
    finally:
        sys.path.remove(str(ROOT / "bench"))
    return module, found


def test_the_guide_shows_what_was_measured(measured) -> None:
    module, found = measured
    text = (ROOT / "docs/cluster.md").read_text()
    for table in module.tables(found):
        assert len(table.splitlines()) > 3
        assert table in text


def test_no_model_travelled_twice_to_a_worker(measured) -> None:
    _, found = measured
    assert max(row["workers"] for row in found["simulated"]) >= 100
    assert all(row["copies"] <= row["workers"] for row in found["simulated"])
