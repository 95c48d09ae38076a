"""Without torch one line says what to install, and the rest of the package works."""

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["torch"] = None
from onnxopt.errors import UsageError
try:
    import onnxopt.training.sensitivity
except UsageError as error:
    print(error)
"""


def test_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        'ONX108: training needs a package that is not installed [torch]. Run: pip install "onnxopt[train]"'
    )
    assert not done.stderr
