"""How many units go at a time: as many as fill a register of the processor, however wide one unit is."""

from types import SimpleNamespace

import pytest

from onnxopt.pipeline import Context
from onnxopt.pruning.plan import _step
from onnxopt.pruning.request import Request
from onnxopt.target import target_of


@pytest.mark.parametrize(
    ("target", "width", "step"),
    [
        ("x86-vnni", 1, 16),
        ("x86-vnni", 4, 4),
        ("x86-vnni", 12, 4),
        ("x86-vnni", 32, 1),
        ("arm64", 1, 8),
        ("arm64", 4, 2),
    ],
)
def test_a_step_fills_whole_registers(target: str, width: int, step: int) -> None:
    positions = [range(start, start + width) for start in range(0, 64, width)]
    group = SimpleNamespace(members=[("weight", 0, positions)])
    assert _step(group, Request(), Context(target_of(target))) == step
    assert step * width % (16 if target == "x86-vnni" else 8) == 0
