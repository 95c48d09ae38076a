"""The tables of docs/low-rank.md are what the benches measured."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH, TEXT = ROOT / "bench", (ROOT / "docs/low-rank.md").read_text()


def newest(ending: str) -> dict:
    return json.loads(sorted((BENCH / "results").glob(f"*-{ending}.json"))[-1].read_text())


@pytest.fixture(scope="module", params=["low_rank", "low_rank_details"])
def tables(request):
    sys.path.insert(0, str(BENCH))
    try:
        module = importlib.import_module(request.param)
    finally:
        sys.path.remove(str(BENCH))
    found = newest(request.param.replace("_", "-"))
    return [module.table(found["results"])] if "results" in found else module.tables(found)


def test_the_guide_shows_what_was_measured(tables) -> None:
    for text in tables:
        assert len(text.splitlines()) > 3
        assert text in TEXT


def test_no_model_that_was_kept_is_slower_and_what_stays_says_why() -> None:
    rows = [row for found in newest("low-rank")["results"] for row in found["rows"]]
    kept = [row for row in rows if row["method"] == "mix" and row["layers"]]
    assert kept
    assert all(row["time_share"][1] < 1 and row["predicted_time_share"] < 1 for row in kept)
    assert all(reason for row in rows for reason in row["left"].values())
