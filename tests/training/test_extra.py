"""Without torch one line says what to install, and the rest of the package works."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules["torch"] = None
from onnxopt.errors import UsageError
try:
    import onnxopt.training.sensitivity
except UsageError as error:
    print(error)
"""
SEARCH = """
import sys
sys.modules["torch"] = None
from onnxopt.errors import UsageError
from onnxopt.options.search import SearchOptions
from onnxopt.run.job import prepare
try:
    prepare("no such model", "no such data", SearchOptions(prune=True, train=True))
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize("program", [PROGRAM, SEARCH], ids=["training", "search"])
def test_without_torch(program) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        'ONX108: training needs a package that is not installed [torch]. Run: pip install "onnxopt[train]"'
    )
    assert not done.stderr
