"""Nothing heavy is imported before the arguments are parsed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import onnxopt

# Not pydantic: newer versions of typer read arguments with it.
HEAVY = ["numpy", "onnx", "onnx_ir", "onnxruntime", "scipy", "sympy", "rich", "jinja2", "sklearn", "torch"]
SAY = f"print(sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"


@pytest.mark.parametrize(
    "program",
    [
        "import onnxopt",
        "from onnxopt.cli.entry import main; assert main(['--help']) == 0",
        "from onnxopt.cli.entry import main; assert main(['optimize', '--help']) == 0",
        "from onnxopt.cli.entry import main; assert main(['optimize', '--no-such-option']) == 2",
    ],
)
def test_nothing_heavy_is_imported(program):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; {SAY}"], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_statistics_are_imported_where_they_are_computed(command):
    """scipy takes a second of a slow processor, and these commands compute none."""
    model = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"
    program = (
        "import sys; from onnxopt.cli.entry import main; main(sys.argv[1:]); "
        "print(sorted({'scipy.stats', 'scipy.optimize'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command, str(model)], capture_output=True, check=False, text=True
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_every_public_name_is_there():
    for name in dir(onnxopt):
        assert getattr(onnxopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = onnxopt.nonsense


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(onnxopt.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    imported = {a.asname for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names if a.asname}
    imported |= {t.id for n in block.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    assert imported == set(onnxopt._MODULES)
