"""Where the developer pack is not at hand, a measurement says what it needs."""

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def test_without_the_pack_one_line_says_what_is_needed_and_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    pack = importlib.import_module("pack")
    monkeypatch.setattr(pack, "ROOT", tmp_path)

    with pytest.raises(SystemExit) as ended:
        pack.cases()

    line = str(ended.value.code)
    assert "\n" not in line
    assert str(tmp_path / "manifest.json") in line
    assert "maintainers" in line
    assert "ONNXOPT_PACK" in line
