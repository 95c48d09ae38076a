"""docs/BENCHMARKS.md and the README's table, from the newest records in bench/results/ or from new ones.

    python bench/scoreboard.py              # write the page
    python bench/scoreboard.py --measure    # run all benches first: several hours
    python bench/scoreboard.py --again [NAME]    # search one model of the table again, at random without a name

Each table is that of one bench, with the command that makes it, machine and versions. `--again` runs the search of one
row again and says whether drop and speed-up agree with the row within their intervals.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "BENCHMARKS.md"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- the newest table, by bench/scoreboard.py -->", "<!-- end of the table -->"

Record = Mapping[str, Any]


def newest(kind: str) -> tuple[Path, Record] | None:
    """Return the newest record of a kind, whose file is named `DATE-KIND.json`."""
    found = sorted(RESULTS.glob(f"????-??-??-{kind}.json"))
    return (found[-1], json.loads(found[-1].read_text())) if found else None


def machine(environment: Record) -> str:
    """Return processor and versions in one sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in sorted(environment["versions"].items()) if number)
    return f"{environment['cpu']}, {environment['cores']} cores, Python {environment['python']}, {versions}"


def prose(text: str) -> str:
    """Return a paragraph in one line."""
    return " ".join(text.split())


def labelled(record: Record) -> list[str]:
    from optimize_table import summary as summed_up
    from optimize_table import table

    summary, settings = summed_up(record["models"]), record["settings"]
    gained = summary["models"] - len(summary["nothing_gained"])
    before = f"""Searches of {settings["time_limit"]:g} seconds, a budget of {settings["max_drop"]}, one thread,
        batch 1. Drop in points of top-1 on all test samples (negative: better than FP32); speed-up over the baseline
        in ONNX Runtime, as called, with its 95 % interval. *Quantization alone* is the best of the same search that
        neither prunes nor factorizes (the closed division, in the words of MLPerf). The other columns are the files of
        ONNX Runtime's quantizer: static with its defaults, static U8S8 per channel, dynamic; drop, speed-up."""
    after = f"""{summary["models"]} models, of which {gained} gained. Medians over all of them:
        {summary["median_speedup"]:.2f}x faster, {summary["median_size_ratio"]:.2f}x smaller. Over the budget on all
        samples: {names(summary["over_budget"])}. Slower than FP32: {names(summary["slower_than_fp32"])}. More than 3 %
        behind another file inside the budget, beyond doubt: {names(summary["behind"])}. The clock was unsure of:
        {names(summary["unsure"])}. Control: the baseline beside itself differs on:
        {names(summary["baseline_differs_from_itself"])}.{busy(record["models"])}"""
    return [prose(before), "", table(record["models"]), "", prose(after)]


def busy(models: Sequence[Record]) -> str:
    """Return a sentence about other load; "" where it was not recorded."""
    loads = [model["load"] for model in models if "load" in model]
    return f" Load average of the host: {min(loads):g} to {max(loads):g}." if loads else ""


def deployed(record: Record) -> list[str]:
    from deployed import table

    settings = record["settings"]
    before = f"""Models that are in use, most of them from ordinary packages, {settings["samples"]} samples without
        labels, {settings["time_limit"]} seconds, a budget of {settings["max_drop"]}. *Check of it*: the shipped file
        beside the baseline on {settings["fresh"]} fresh samples, by code that shares nothing with the judge. *Static
        INT8*: the same check of a plain static file; *inside*: whether `onnxopt compare` calls that file within the
        budget."""
    return [prose(before), "", table(record["models"])]


def clock(record: Record) -> list[str]:
    cells = record["cells"]
    heads = (
        "host",
        "threads",
        "ratios",
        "trials",
        "unsure",
        "intervals with the true ratio",
        "A/A called different",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---|--:|---|" + "--:|" * 4]
    for host, threads in dict.fromkeys((cell["host"], cell["threads"]) for cell in cells):
        some = [cell for cell in cells if (cell["host"], cell["threads"]) == (host, threads)]
        trials, unsure, held = (sum(cell[key] for cell in some) for key in ("trials", "unsure", "held"))
        same = [cell for cell in some if cell["factor"] == 1]
        apart = f"{sum(cell['told_apart'] for cell in same)} of {sum(cell['trials'] for cell in same)}"
        ratios = ", ".join(f"{cell['factor']:g}" for cell in some)
        told = [host, threads, ratios, trials, unsure, f"{held} of {trials - unsure}", apart]
        lines.append("| " + " | ".join(map(str, told)) + " |")
    before = """Planted speed-ups, from 30 microseconds to 100 ms, float and INT8, beside other programs: a busy loop
        on the same processor, one on the other, bursts of 5 to 50 ms, a program that copies memory."""
    after = f"""{record["met"]} of {len(cells)} cells (host, threads, ratio) meet the criteria: at least 90 % of the
        intervals hold the true ratio; at most 5 % of A/A trials are called different; at most 10 % of the trials on an
        idle host are unsure."""
    return [prose(before), "", *lines, "", prose(after)]


def repair(record: Record) -> list[str]:
    rows = record["rows"]
    speeds = [row["speed_up"] for row in rows if row["kept"] and row.get("speed_up")]
    text = f"""{len(rows)} quantized files of other tools that ONNX Runtime runs: {len(speeds)} were mended, with a
        median speed-up of {statistics.median(speeds):.2f}x. See [repair](repair.md#results)."""
    return [prose(text)]


def proof(record: Record) -> list[str]:
    rows = record["rows"]
    worst = max(rows, key=lambda row: row["proven, over budget"])
    text = f"""{len(rows)} cases of simulated searches. Highest rate of *proven* models over the budget:
        {100 * worst["proven, over budget"]:.1f} % of {worst["trials"]} searches ({worst["metric"]}, {worst["samples"]}
        samples, a true drop of {worst["true drop, points"]} points; at most 5 % is the aim). See
        [search](search.md#certainty-of-the-proof)."""
    return [prose(text)]


def quantizers(record: Record) -> list[str]:
    from quantize import medians

    models, controls = record["models"], record["summary"]["controls"]
    versions = {r["package"]: r["version"] for m in models for r in m["rows"].values() if "version" in r}
    failed = {maker: sum(maker in m["failures"] for m in models) for m in models for maker in m["failures"]}
    loads = [model["load"] for model in models]
    before = f"""Every quantizer gets the same 128 samples of {len(models)} classifiers without their labels, nothing
        is pruned or trained (the closed division, in the words of MLPerf); `onnxopt` is `quantize --mode auto --task
        classification`. Drops are judged by the labels of up to 1,000 test samples. All files of a model are timed in
        one interleaved run, as called. Size, p99, load time and private memory are relative to the FP32 file, medians
        over the models on which a quantizer works; *lines* are those that a user writes. The result of every quantizer
        on every model is in [quantization](quantization.md#against-other-quantizers)."""
    found = [f"{name} on {c['models'] - len(c['missed'])} of {c['models']} models" for name, c in controls.items()]
    missed = [model for control in controls.values() for model in control["missed"]]
    failures = ", ".join(f"{maker} {number}" for maker, number in failed.items())
    after = f"""Controls, found where they belong: {"; ".join(found)} (the FP32 file beside itself; a file that computes
        everything twice; one with noise in its weights); not beyond doubt on: {names(missed)}. Failures: {failures}.
        Versions: {", ".join(f"{name} {number}" for name, number in sorted(versions.items()))}; quantizers with other
        requirements run in environments of their own (`--venv PACKAGE=PYTHON`). Load average of the host:
        {min(loads):g} to {max(loads):g}."""
    return [prose(before), "", *medians(models), "", prose(after)]


SECTIONS: Mapping[str, tuple[str, str, Callable[[Record], list[str]]]] = {
    "optimize": ("Labelled models", "bench/optimize.py --prune --time-limit 120 --seconds 6", labelled),
    "deployed": ("Deployed models without labels", "bench/deployed.py --time-limit 120 --fresh 150", deployed),
    "quantize": (
        "Quantizers side by side",
        "bench/quantize.py --without onnxopt-high --most 1000 --seconds 6",
        quantizers,
    ),
    "repair": (
        "Repair of quantized files",
        "bench/repair_files.py bench/build/repair && bench/repair.py bench/build/repair",
        repair,
    ),
    "clock": ("The clock", "bench/clock.py", clock),
    "proof": ("The proof", "bench/proof.py --trials 1600 --measure", proof),
}
"""By kind of record: title, command, and what makes its part of the page."""


def page() -> str:
    """Return the page from the newest records."""
    about = """`python bench/scoreboard.py` writes this page from the newest records in bench/results; `make scoreboard`
        measures them before. Models of others are downloaded or read from a folder beside the checkout, and are not
        part of this project."""
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


def names(found: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(found) or "none"


def again(name: str | None) -> int:
    """Search the model of one row again, and compare with the row."""
    found = newest("optimize")
    if found is None:
        raise SystemExit("there is no record of bench/optimize.py to compare with")
    rows = {model["model"]: model for model in found[1]["models"]}
    if name is not None and name not in rows:
        raise SystemExit(f"there is no row {name} in {found[0].name}; rows: {', '.join(rows)}")
    row = rows[name or random.choice(list(rows))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "again.json"
        limit = found[1]["settings"]["time_limit"]
        command = [sys.executable, str(HERE / "optimize.py"), row["model"], "--prune", "--time-limit", str(limit)]
        subprocess.run([*command, "--out", str(out)], check=False)
        if not out.exists():
            raise SystemExit(f"{row['model']} could not be measured again")
        new = next(m for m in json.loads(out.read_text())["models"] if m["model"] == row["model"])
    agrees = True
    for kind in ("drop_interval", "speedup"):
        before, after = (_ends(m["rows"]["onnxopt"][kind]) for m in (row, new))
        overlap = before is None or after is None or (before[0] <= after[1] and after[0] <= before[1])
        agrees &= overlap
        print(f"{row['model']}: {kind} {before} before, {after} now: {'agrees' if overlap else 'DIFFERS'}")
    return 0 if agrees else 1


def _ends(interval: Any) -> tuple[float, float] | None:
    if interval is None:
        return None
    return (interval["low"], interval["high"]) if isinstance(interval, dict) else (interval[0], interval[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run the benches first")
    parser.add_argument("--again", nargs="?", const="", metavar="NAME", help="search one model of the table again")
    options = parser.parse_args()
    if options.again is not None:
        return again(options.again or None)
    if options.measure:
        for _, command, _ in SECTIONS.values():
            for part in command.split(" && "):
                subprocess.run([sys.executable, *part.split()], cwd=HERE.parent, check=False)
    PAGE.write_text(page())
    README.write_text(readme(README.read_text()))
    print(f"Written: {PAGE}, and the table in {README}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
