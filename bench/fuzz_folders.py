"""Mutate data, run folders and journals, and count how the commands that read them end.

python bench/fuzz_folders.py --each 60 --journals 4000 --out bench/results/fuzz_folders.json

A command must end with 0, 1, 2, 3, 4 or 5 and at most one line on stderr; ONX901, a traceback or a warning is a fault.
Everything runs in this process, on the digits network.
"""

import argparse
import contextlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnxopt import __version__
from onnxopt.cli.entry import main as onnxopt
from onnxopt.errors import OnnxoptError
from tests.hostile.faults import data_faults, journal_faults, run_faults, valid_data
from tests.hostile.valid import MODEL, resume, valid_journal, valid_run

MOST_SECONDS = 20.0


def ended(words: list[str]) -> tuple[int, str]:
    """Run a command and return its exit code and what it said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("always")
        code = onnxopt(words)
    return code, said.getvalue()


def wrong(code: int, said: str) -> str:
    """Return what is wrong with an ending, empty when nothing is."""
    if code not in range(6):
        return f"exit {code}: {said.strip()[:300]}"
    if said.count("\n") > 1 or "Traceback" in said or "Warning" in said:
        return f"more than a line: {said.strip()[:300]}"
    return ""


def commit() -> str:
    """Return the commit that was tested."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Fuzz, print the faults, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--each", type=int, default=250, help="mutations of each kind of file")
    parser.add_argument("--journals", type=int, default=1000, help="mutations of the journal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose name begins so")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    begun, faults, codes, slowest = time.monotonic(), [], Counter(), 0.0
    with tempfile.TemporaryDirectory(prefix="onnxopt-fuzz-") as name:
        place = Path(name)
        found = [
            *data_faults(MODEL, valid_data(), given.each, given.seed),
            *run_faults(valid_run(place / "valid"), given.each, given.seed),
        ]
        for fault in found:
            if not fault.name.startswith(given.only):
                continue
            folder = place / "one"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            since = time.monotonic()
            code, said = ended(fault.place(folder))
            slowest = max(slowest, time.monotonic() - since)
            codes[f"{fault.name.rpartition(' ')[0]}: exit {code}"] += 1
            if problem := wrong(code, said):
                faults.append(f"{fault.name}: {problem}")
                print(faults[-1], flush=True)
        for number, (about, data) in enumerate(
            journal_faults(valid_journal(place / "j.jsonl"), given.journals, given.seed)
        ):
            if not about.startswith(given.only):
                continue
            path = place / f"{number}.jsonl"
            path.write_bytes(data)
            try:
                resume(path)
                codes["journal: read"] += 1
            except OnnxoptError as error:
                codes[f"journal: {error.code}"] += 1
            except Exception as error:
                faults.append(f"{about}: {type(error).__name__}: {error}")
                print(faults[-1], flush=True)
    result = {
        "mutations": sum(codes.values()) + sum("journal" in fault for fault in faults),
        "faults": faults,
        "slowest_within_20_s": slowest <= MOST_SECONDS,
        "endings": dict(sorted(codes.items())),
        "seed": given.seed,
        "commit": commit(),
        "versions": {"onnxopt": __version__, "python": platform.python_version()},
    }
    text = json.dumps(result, indent=1) + "\n"
    print(f"{result['mutations']} mutations, {len(faults)} faults, {time.monotonic() - begun:.0f} s")
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
