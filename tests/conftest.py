"""Settings of the whole suite."""

import gc
import os
import tempfile
import warnings
from pathlib import Path

import hypothesis
import pytest

import onnxopt
from onnxopt.record.run import RunRecord
from tests.run import fakes

MODELS = Path(__file__).parents[1] / "models"

# Examples are the same on every run and no example is timed: a failure is a fact about the code, not about the machine.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("suite")

# ONNX Runtime's quantizer is chatty about its own deprecations.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="onnxruntime.*")


def pytest_collection_finish():
    """Keep thousands of collected tests out of the garbage collections that precede timed runs: each took a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own():
    """Keep what is measured away from the user's cache, also from commands that tests start."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(Path(folder) / os.environ.get("PYTEST_XDIST_WORKER", "main")))
        yield


@pytest.fixture(scope="session")
def explained(tmp_path_factory) -> Path:
    """The folder of a run that found what `fakes` says, explained by real measurements."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxopt.run.recorder.search", fakes.static_search)
        onnxopt.optimize(MODELS / "digits_resnet.onnx", "digits", out=folder)
    return folder


@pytest.fixture(scope="session")
def explained_record(explained) -> RunRecord:
    return RunRecord.model_validate_json((explained / "run.json").read_text())
