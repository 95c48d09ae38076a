from pathlib import Path

import pytest

import onnxopt
from onnxopt.report.record import RunRecord
from tests.report import fakes

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="session")
def explained(tmp_path_factory) -> Path:
    """The folder of a run that found what `fakes` says, explained by real measurements."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxopt.report.recorder.search", fakes.static_search)
        onnxopt.optimize(MODELS / "digits_resnet.onnx", "digits", out=folder)
    return folder


@pytest.fixture(scope="session")
def explained_record(explained) -> RunRecord:
    return RunRecord.model_validate_json((explained / "run.json").read_text())
