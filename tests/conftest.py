"""Settings of the whole suite."""

import os
import tempfile
import warnings
from pathlib import Path

import hypothesis
import pytest

# Examples are the same on every run and no example is timed: a failure is a fact about the code, not about the machine.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("suite")

# ONNX Runtime's quantizer is chatty about its own deprecations.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="onnxruntime.*")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own():
    """Keep what is measured away from the user's cache, also from commands that tests start."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(Path(folder) / os.environ.get("PYTEST_XDIST_WORKER", "main")))
        yield
