"""The notebook of the documentation is valid and runs from its first to its last cell."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs/examples/first_model.ipynb"


def test_its_format_is_valid():
    nbformat = pytest.importorskip("nbformat", reason="nbformat knows the format of notebooks")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_it_has_no_stored_outputs():
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


@pytest.mark.long
def test_its_cells_run_in_order(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn has the digits")
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, object] = {"__name__": "__main__"}
    shown = [
        _executed("".join(cell["source"]), names)
        for cell in json.loads(NOTEBOOK.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    inspected, score, ratio, compared, best, verified = shown
    assert "224" in inspected._repr_html_()  # it has 224,202 parameters
    assert score.n == 797
    assert ratio > 3
    assert compared.accuracy.drop.n == 797
    assert best.is_relative_to(tmp_path)
    assert best.is_file()
    assert verified.passed


def _executed(source: str, names: dict[str, object]):
    """Execute a cell and return the value of its last line, which a notebook would show."""
    tree = ast.parse(source)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
