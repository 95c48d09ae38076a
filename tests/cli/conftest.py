from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onnxopt.cli.entry import main

MODELS = Path(__file__).parents[2] / "models"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def run(*arguments: Any) -> Ended:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def resnet() -> Path:
    return MODELS / "digits_resnet.onnx"


@pytest.fixture
def mlp() -> Path:
    return MODELS / "digits_mlp.onnx"
