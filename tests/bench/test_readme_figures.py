"""Every measured figure of the README is on the page of results, or in a record that the README names beside it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(r"(?<![\w.])\d+\.\d+(?=x| times|,| and|\b)(?!\.\d)")
NAMED = re.compile(r"bench/results/[\w.-]+\.json")
LINKED = re.compile(r"docs/BENCHMARKS\.md#([\w-]+)")
TABLE = re.compile(r"<!-- the newest table.*?<!-- end of the table -->", re.DOTALL)
SECTIONS = ("Results", "Why not the tools you know")


def paragraphs(readme: str) -> Iterator[str]:
    """Yield the paragraphs that state measurements, without the table, which is written by bench/scoreboard.py."""
    for part in re.split(r"^## ", TABLE.sub("", readme), flags=re.MULTILINE):
        if part.splitlines()[0] in SECTIONS:
            yield from re.split(r"\n\s*\n", part)


def numbers(content: Any) -> Iterator[float]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from numbers(each)
    elif isinstance(content, float | int) and not isinstance(content, bool):
        yield float(content)


def section(page: str, anchor: str) -> str:
    for part in re.split(r"^## ", page, flags=re.MULTILINE):
        if part.splitlines()[0].lower().replace(" ", "-") == anchor:
            return part
    raise AssertionError(f"docs/BENCHMARKS.md has no section {anchor}")


def unproven(readme: str, page: str) -> list[str]:
    """Return the figures that are neither in the sections and records named in their paragraph, nor on the page.

    A figure may be rounded. Where its paragraph links to sections of the page, it must be in one of them.
    """
    found = []
    for paragraph in paragraphs(readme):
        sources = "\n".join(section(page, anchor) for anchor in LINKED.findall(paragraph)) or page
        known = [float(text) for text in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", sources)]
        for name in NAMED.findall(paragraph):
            known += numbers(json.loads((ROOT / name).read_text()))
        for text in FIGURE.findall(paragraph):
            digits = len(text.partition(".")[2])
            if not any(abs(one - float(text)) <= 0.5 * 10**-digits + 1e-9 for one in known):
                found.append(text)
    return found


def test_every_figure_is_a_measured_one() -> None:
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs" / "BENCHMARKS.md").read_text()
    assert sum(len(FIGURE.findall(paragraph)) for paragraph in paragraphs(readme)) > 10
    assert unproven(readme, page) == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A median of 1.7x, and 2.25 times as fast.", ["2.25"]),
        ("4.4x ([table](docs/BENCHMARKS.md#the-clock)).", ["4.4"]),
        ("4.4x ([table](docs/BENCHMARKS.md#quantizers)).", []),
        ("3.3, 4.4 and 9.9 times.", ["3.3", "9.9"]),
    ],
)
def test_a_figure_that_nobody_measured_is_named(said: str, expected: list[str]) -> None:
    page = "# Benchmarks\n\n## Quantizers\n\n| 1.71 | 4.37x |\n\n## The clock\n\n| 1 of 5 |\n"
    assert unproven(f"# onnxopt\n\n9.87x\n\n## Results\n\n{said}\n\n## More\n\n8.88x\n", page) == expected


def test_a_record_that_is_named_counts(tmp_path, monkeypatch) -> None:
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "a.json").write_text(json.dumps({"summary": {"median": 1.949}, "rows": [[2.5]]}))
    monkeypatch.setattr("tests.bench.test_readme_figures.ROOT", tmp_path)
    said = "# onnxopt\n\n## Results\n\n1.95x, 2.5x and 2.6x (bench/results/a.json).\n"
    assert unproven(said, "# Benchmarks\n") == ["2.6"]
