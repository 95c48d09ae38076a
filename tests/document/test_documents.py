import re
from pathlib import Path

from onnxopt.errors import CODES

ROOT = Path(__file__).parents[2]


def test_every_error_code_is_documented_with_what_to_do():
    rows = re.findall(r"^\| (ONX\d{3}) \| (.+?) \| (.+?) \|$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert {code: meaning for code, meaning, _ in rows} == dict(CODES)
    assert all(advice.endswith(".") for _, _, advice in rows)


def test_constraints_name_the_torch_release_for_every_platform():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert all("==" in line and "+" not in line for line in lines if not line.startswith("#"))
