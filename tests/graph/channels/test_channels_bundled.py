"""How many groups each bundled model has, of what, and why the others are frozen.

Run with ONNXOPT_WRITE_GOLDEN=1 to store what is found now.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from onnxopt import model_file
from onnxopt.graph.channels.find import groups_of

STORED = Path(__file__).parent / "bundled_groups.json"
MODELS = sorted(path.name for path in Path("models").glob("*.onnx"))


def found_in(name: str) -> dict[str, int]:
    groups = groups_of(model_file.load(Path("models") / name))
    return dict(Counter(f"{g.size} {g.unit}s: {g.frozen or 'free'}" for g in groups))


@pytest.mark.parametrize("name", MODELS)
def test_groups_are_as_stored(name):
    found = found_in(name)
    if os.environ.get("ONNXOPT_WRITE_GOLDEN"):
        stored = json.loads(STORED.read_text()) if STORED.exists() else {}
        STORED.write_text(json.dumps({**stored, name: found}, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    assert found == json.loads(STORED.read_text())[name]
    assert any(text.endswith("free") for text in found)
