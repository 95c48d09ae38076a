"""docs/BENCHMARKS.md and the README's table, from the newest records in bench/results/ or from new ones.

    python bench/scoreboard.py              # write the page
    python bench/scoreboard.py --measure [--venv PACKAGE=PYTHON ...]    # run all benches first: several hours
    python bench/scoreboard.py --again [KIND] [NAME]    # measure one row again, at random without a name

Each table is that of one bench, with the command that makes it, machine and versions. `--venv` names the environments
of quantizers that want other libraries. `--again` measures a row of the newest record of a kind (optimize, unless one
is named) by its command and says whether its intervals overlap with those of the record.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scoreboard_again import again
from scoreboard_sections import (
    Record,
    classic,
    clock,
    deployed,
    deployed_int8,
    labelled,
    proof,
    prose,
    quantizers,
    repair,
    trained,
)

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "BENCHMARKS.md"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- the newest table, by bench/scoreboard.py -->", "<!-- end of the table -->"


def newest(kind: str) -> tuple[Path, Record] | None:
    """Return the newest record of a kind, whose file is named `DATE-KIND.json`."""
    found = sorted(RESULTS.glob(f"????-??-??-{kind}.json"))
    return (found[-1], json.loads(found[-1].read_text())) if found else None


def machine(environment: Record) -> str:
    """Return processor and versions in one sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in sorted(environment["versions"].items()) if number)
    fast = [name for name in environment.get("isa", ()) if "vnni" in name or name.startswith("amx")]
    products = f" ({fast[-1]})" if fast else " (avx2)" if "avx2" in environment.get("isa", ()) else ""
    return f"{environment['cpu']}{products}, {environment['cores']} cores, Python {environment['python']}, {versions}"


SECTIONS: Mapping[str, tuple[str, str, Callable[[Record], list[str]]]] = {
    "optimize": ("Labelled models", "bench/optimize.py --prune --time-limit 120 --seconds 6", labelled),
    "optimize-avx2": (
        "Labelled models on x86 without VNNI",
        "bench/optimize.py --prune --time-limit 120 --seconds 6 --out bench/results/DATE-optimize-avx2.json",
        labelled,
    ),
    "optimize-train": (
        "With training",
        "bench/optimize.py kws_ds kws_dnn sst2 jpeg_resnet --prune --train --time-limit 1500 --seconds 6",
        trained,
    ),
    "deployed": ("Deployed models without labels", "bench/deployed.py --time-limit 120 --fresh 150", deployed),
    "deployed-int8": ("INT8 of detectors and recognizers", "bench/deployed_int8.py", deployed_int8),
    "quantize": (
        "Quantizers side by side",
        "bench/quantize.py --without onnxopt-high --most 1000 --seconds 6",
        quantizers,
    ),
    "classic": ("Pruning, INT8, distillation", "bench/classic.py", classic),
    "repair": (
        "Repair of quantized files",
        "bench/repair_files.py bench/build/repair && bench/repair.py bench/build/repair",
        repair,
    ),
    "clock": ("The clock", "bench/clock.py", clock),
    "proof": ("The proof", "bench/proof.py --trials 1600 --measure", proof),
}
"""By kind of record: title, command, and what makes its part of the page."""
ELSEWHERE = ("optimize-avx2",)
"""Kinds of which `--measure` makes no record, because they ask for another processor."""


def commands(venvs: Sequence[str]) -> list[list[str]]:
    """Return the words of all commands; benches of other tools get the environments `PACKAGE=PYTHON`."""
    here = [command for kind, (_, command, _) in SECTIONS.items() if kind not in ELSEWHERE]
    lines = [part.split() for command in here for part in command.split(" && ")]
    pythons = list(dict.fromkeys(entry.partition("=")[2] for entry in venvs))
    given = {"bench/repair_files.py": pythons, **dict.fromkeys(("bench/quantize.py", "bench/deployed_int8.py"), venvs)}
    return [[*line, *(word for one in given.get(line[0], ()) for word in ("--venv", one))] for line in lines]


def page() -> str:
    """Return the page from the newest records."""
    about = """`python bench/scoreboard.py` writes this page from the newest records in bench/results; `make scoreboard`
        measures them before, and `python bench/scoreboard.py --again KIND` measures a random row again and says whether
        it agrees. Rows are of two divisions, in the words of MLPerf: *quantized only* (closed) and *pruned/trained*
        (open); and of two classes: at least 99 % or 99.9 % of the accuracy of FP32. Models of others are downloaded or
        read from a folder beside the checkout, and are not part of this project."""
    lines = ["# Benchmarks", "", prose(about)]
    for kind, (title, command, part) in SECTIONS.items():
        found = newest(kind)
        if found is None:
            continue
        path, record = found
        environment = record.get("environment") or next((m["environment"] for m in record.get("models", ())), None)
        where = f"`{command}`, `{path.relative_to(HERE.parent)}`"
        lines += [
            "",
            f"## {title}",
            "",
            *part(record),
            "",
            f"{where}. {machine(environment)}." if environment else f"{where}.",
        ]
    return "\n".join(lines) + "\n"


def readme(text: str) -> str:
    """Return the README with the newest table between its two marks."""
    from optimize_table import short_table

    found = newest("optimize")
    if found is None:
        return text
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{short_table(found[1]['models'])}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run the benches first")
    parser.add_argument("--venv", action="append", default=[], metavar="PACKAGE=PYTHON")
    parser.add_argument("--again", nargs="*", metavar="KIND NAME", help="measure one row of a record again")
    options = parser.parse_args()
    if options.again is not None:
        kind, name, *_ = [*options.again, "", ""]
        kind = kind or "optimize"
        return again(kind, name, newest(kind))
    if options.measure:
        for line in commands(options.venv):
            subprocess.run([sys.executable, *line], cwd=HERE.parent, check=False)
    PAGE.write_text(page())
    README.write_text(readme(README.read_text()))
    print(f"Written: {PAGE}, and the table in {README}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
