"""The table of blocks in docs/pruning.md is that of the newest record."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("ending", ["prune-blocks", "digits-blocks"])
def test_the_guide_shows_what_was_measured(ending: str) -> None:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        bench = importlib.import_module("prune_blocks")
    finally:
        sys.path.remove(str(ROOT / "bench"))
    newest = sorted((ROOT / "bench/results").glob(f"*-{ending}.json"))[-1]
    text = bench.table(json.loads(newest.read_text()))
    assert len(text.splitlines()) > 3
    assert text in (ROOT / "docs/pruning.md").read_text()
    assert newest.name in (ROOT / "docs/pruning.md").read_text()
