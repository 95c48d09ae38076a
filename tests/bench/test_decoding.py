"""The decoder of the bench is causal, and its table has every form."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module("decoding")
    finally:
        sys.path.remove(str(BENCH))


def test_later_tokens_do_not_change_earlier_logits(bench: ModuleType) -> None:
    session = onnxruntime.InferenceSession(bench.decoder(1, 64).SerializeToString())
    empty = {
        i.name: np.zeros((1, bench.HEADS, 0, 64 // bench.HEADS), np.float32) for i in session.get_inputs()[3:]
    }  # fmt: skip
    tokens = np.arange(1, 9)

    def logits(count: int) -> np.ndarray:
        mask = np.ones((1, count), np.int64)
        feeds = {"input_ids": tokens[None, :count], "attention_mask": mask, "position_ids": np.arange(count)[None]}
        return session.run(["logits"], {**feeds, **empty})[0][0]

    np.testing.assert_allclose(logits(5), logits(8)[:5], atol=1e-4)


@pytest.mark.slow
def test_every_form_is_in_the_table(bench: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = ["--layers", "1", "--width", "64", "--prompt-tokens", "4", "--new-tokens", "2", "--seconds", "0.1"]
    assert bench.main([*words, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["models"]
    assert [row["model"] for row in rows] == ["float", *bench.FORMS]
    assert all(row["size_bytes"] < rows[0]["size_bytes"] for row in rows[1:])
