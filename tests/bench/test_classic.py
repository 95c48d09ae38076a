"""The classic compression table: its rows, and its controls."""

from typing import Any

import pytest


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("classic")


def row(accuracy: float, speed: float, size: int, **more: Any) -> dict[str, Any]:
    interval = {"low": speed - 0.05, "value": speed, "high": speed + 0.05}
    drop = 0.9 - accuracy
    base = {"accuracy": accuracy, "drop": drop, "interval": [drop - 0.01, drop + 0.01], "size_bytes": size}
    return base | {"speedup": interval, "seconds": 90.0} | more


def rows() -> dict[str, Any]:
    return {
        "fp32": row(0.9, 1.0, 800) | {"speedup": None},
        "pruned": row(0.87, 1.6, 400, macs_share=0.5),
        "int8": row(0.8995, 2.0, 200),
        "distilled": row(0.892, 1.6, 400, macs_share=0.5),
        "both": row(0.88, 3.1, 100, macs_share=0.5),
        "again": row(0.9, 1.0, 800),
        "planted-slower": row(0.9, 0.5, 800),
        "planted-worse": row(0.2, 1.0, 800),
    }


def test_the_table_says_compression_accuracy_and_speed(bench):
    lines = bench.table([{"model": "cifar10_jpeg_resnet20", "n": 5000, "rows": rows()}]).splitlines()
    assert lines[2] == "| ResNet-20, CIFAR-10 (5000) | float32 |  | 90.00 |  |  | 1.0x | 100 % | 1 |  |"
    assert lines[4].startswith("|  | INT8 | quantized only | 89.95 | +0.05 [-0.95, +1.05] | >= 99.9 % | 4.0x | 100 % |")
    assert lines[6].endswith("| below 99 % | 8.0x | 50 % | 3.10x [3.05, 3.15] | 1.5 |")
    assert lines[5].startswith("|  | pruning 50 % + distillation | pruned/trained | 89.20 |")
    assert len(lines) == 7


def test_controls_that_are_not_found_are_named(bench):
    assert bench.missed(rows()) == []
    wrong = rows() | {"again": row(0.9, 1.2, 800), "planted-slower": row(0.9, 0.97, 800)}
    assert bench.missed(wrong) == ["again", "planted-slower"]
    assert bench.missed(rows() | {"again": {"speedup": None}}) == ["again"]
    assert bench.missed(rows() | {"planted-worse": row(0.895, 1.0, 800)}) == ["planted-worse"]
