"""Without torch one line says what to install, and the rest of the package works."""

import subprocess
import sys

import pytest

ABSENT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
PROGRAM = """
from onnxopt.errors import UsageError
try:
    import onnxopt.training.sensitivity
except UsageError as error:
    print(error)
"""
SEARCH = """
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
    done = subprocess.run([sys.executable, "-c", ABSENT + program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        'ONX108: training needs a package that is not installed [torch]. Run: pip install "onnxopt[train]"'
    )
    assert not done.stderr
