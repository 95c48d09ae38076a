"""The result of a device is data of strangers: times that cannot be are refused, in words and without a warning."""

import json
from pathlib import Path
from typing import Any

import pytest

from onnxopt.errors import DataError
from onnxopt.measure.device.kit import FORMAT
from onnxopt.measure.device.result import read_result

TIMES = ("load_ms", "first_run_ms", "p50_ms", "p90_ms", "p99_ms", "runs", "speedup")


def result() -> dict[str, Any]:
    """Return a result of two models and three epochs; the second model takes half of the time."""
    model = {"name": "m", "sha256": "0", "size_bytes": 10, "difference": 0.0, "same_class": 4, "classified": 4}
    epoch = {"waited": 0.0, **{key: [2.0, 1.0] for key in TIMES}, "runs": [200, 400], "speedup": [1.0, 2.0]}
    epochs = [json.loads(json.dumps(epoch)) for _ in range(3)]
    device = {"flags": [], "cpu": "one"}
    return {
        "format": FORMAT,
        "device": device,
        "refused": None,
        "celsius": {},
        "models": [model, model],
        "epochs": epochs,
        "batch_size": 1,
    }


def written(told: dict[str, Any], folder: Path) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(told))
    return path


def test_epochs_become_one_latency(tmp_path: Path) -> None:
    _, second = read_result(written(result(), tmp_path)).models
    assert second.latency is not None
    assert second.latency.speedup is not None
    assert (second.latency.p50_ms, second.latency.n) == (1.0, 1200)
    assert second.latency.speedup.value == pytest.approx(2.0)


@pytest.mark.parametrize("key", TIMES)
@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, key: str, value: float) -> None:
    told = result()
    told["epochs"][1][key][1] = value
    with pytest.raises(DataError, match=f"ONX201.*{key}"):
        read_result(written(told, tmp_path))
