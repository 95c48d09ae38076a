"""The rules of the house, on trees made up for each of them."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

HOUSE = runpy.run_path(str(Path(__file__).parent.parent / ".ci" / "house.py"))
Findings = Callable[[dict[str, str]], list[str]]


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Return what makes a tree of files, `user/...` beside the package `pack`, and returns what is found in it."""

    def found(files: dict[str, str]) -> list[str]:
        empty = {name: "" for name in ("pack/__init__.py", "user/__init__.py") if not (tmp_path / name).exists()}
        for name, text in {**empty, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        lines = HOUSE["findings"](tmp_path / "pack", [tmp_path / "user"])
        return [line.replace(f"{tmp_path}/", "") for line in lines]

    return found


def test_a_folder_has_at_most_25_files(findings: Findings) -> None:
    files = {f"pack/room/file{i}.py": "" for i in range(25)}
    assert findings(files) == []
    assert findings({**files, "pack/room/one_more.py": ""}) == ["pack/room: 26 Python files, at most 25"]


def test_a_folder_of_one_file_hides_no_file_from_that_limit(findings: Findings) -> None:
    assert findings({"pack/room/__init__.py": "", "pack/room/file.py": ""}) == []
    found = findings({"pack/other/__init__.py": ""})
    assert found == ["pack/other: a folder of one file, which is a file of the folder above"]


def test_a_file_has_at_most_300_lines(findings: Findings) -> None:
    assert findings({"pack/a.py": "\n" * 300}) == []
    assert findings({"pack/a.py": "\n" * 301}) == ["pack/a.py: 301 lines, at most 300"]


def test_a_class_name_is_defined_once_in_a_room(findings: Findings) -> None:
    user = {"user/u.py": "from pack.room.a import Plan\nfrom pack.other.b import Plan as P\n"}
    apart = {"pack/room/a.py": "class Plan: ...\n", "pack/other/b.py": "class Plan: ...\nclass _Own: ...\n"}
    assert findings({**apart, **user}) == []
    alias = {
        "pack/room/c.py": "from pack.room.a import Plan as Other\nScheme = Other\nclass _Plan(Scheme): ...\n_Plan()\n"
    }
    assert findings(alias) == []
    twin = {"pack/room/sub/d.py": "\nclass Plan: ...\n", "user/v.py": "from pack.room.sub.d import Plan\n"}
    assert findings(twin) == ["pack/room/sub/d.py:2: a second class Plan in pack.room, after pack/room/a.py:1"]


@pytest.mark.parametrize("section", ["Args", "Attributes", "Raises", "Returns"])
def test_a_docstring_begins_with_a_summary(findings: Findings, section: str) -> None:
    text = f'def f():\n    """{section}:\n        x: of it.\n    """\n\n\nf()\n'
    assert findings({"pack/a.py": text}) == ["pack/a.py:1: the docstring of f has no summary line"]
    assert findings({"pack/a.py": text.replace(section, f"Do.\n\n    {section}", 1)}) == []
    assert findings({"pack/a.py": text.replace("f()", "_f()")}) == []


def test_modules_do_not_import_each_other(findings: Findings) -> None:
    late = {"pack/a.py": "def f():\n    from pack import b\n    b.g()\n\n\nf()\n", "pack/b.py": "def g(): ...\n"}
    assert findings(late) == []
    circle = {"pack/b.py": "from .c import h\n\n\ndef g(): h()\n", "pack/c.py": "import pack.a\n\n\ndef h(): pack.a\n"}
    assert findings(circle) == ["pack.a, pack.b, pack.c: import each other"]
    typed = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import pack.a\n\n\ndef h() -> 'pack.a.T': ...\n"
    assert findings({"pack/c.py": typed}) == []


def test_public_code_is_used_outside_of_tests(findings: Findings) -> None:
    text = "MOST = 3\n\n\ndef used(): ...\n\n\ndef helped(): used()\n\n\nclass Thing:\n    def act(self): ...\n"
    names = ("MOST", "used", "helped", "Thing", "Thing.act")
    lines = dict(zip(names, (1, 4, 7, 10, 11), strict=True))
    unused = [f"pack/a.py:{lines[name]}: nothing uses {name} but tests" for name in names]
    assert findings({"pack/a.py": text}) == unused
    assert findings({"user/u.py": "from pack.a import MOST, helped\nhelped(MOST)\n"}) == unused[3:]
    assert findings({"user/v.py": "import pack.a\npack.a.Thing().act()\n"}) == []


def test_code_that_is_registered_discovered_or_named_in_a_table_is_used(findings: Findings) -> None:
    command = "from somewhere import app\n\n\n@app.command()\ndef go(): ...\n"
    a_pass = "from base import Pass\n\n\nclass Shrink(Pass):\n    def apply(self): ...\n"
    loader = "from importlib import import_module\n\n\ngetattr(import_module(f'pack.kinds.{1}'), 'convert')\n"
    assert (
        findings(
            {
                "pack/cli.py": command,
                "pack/passes/shrink.py": a_pass,
                "pack/__init__.py": "LAZY = {'door': 'pack.api:door'}\nprint(LAZY)\n",
                "pack/api.py": "def door(): ...\n",
                "pack/load.py": loader,
                "pack/kinds/one.py": "def convert(): ...\n",
            }
        )
        == []
    )
    assert findings({"pack/elsewhere.py": a_pass}) == ["pack/elsewhere.py:4: nothing uses Shrink but tests"]


def test_a_method_that_another_library_calls_is_used(findings: Findings) -> None:
    text = "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self): ...\n\n\nNet()\n"
    assert findings({"pack/a.py": text}) == []


def test_the_exit_code_tells_whether_anything_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("\n" * 301)
    assert HOUSE["main"]([str(tmp_path)]) == 1
    assert "301 lines" in capsys.readouterr().out
    (tmp_path / "a.py").write_text("")
    assert HOUSE["main"]([str(tmp_path)]) == 0


def test_a_function_takes_at_most_five_arguments_by_position(findings: Findings) -> None:
    text = "class _A:\n    def one(self, a, b, c, d, e, *, f): ...\n    def two(self, a, b, c, d, e, f): ...\n"
    assert findings({"pack/a.py": text, "user/u.py": "x.one, x.two\n"}) == [
        "pack/a.py:3: two takes 6 arguments by position"
    ]
