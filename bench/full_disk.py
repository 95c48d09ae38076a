"""Run commands that write where the disk is full or the folder is read-only, and look whether what was there is whole.

python bench/full_disk.py --out bench/results/full_disk.json

A full disk is a limit on the size of files (RLIMIT_FSIZE): 0, 30, 70 and 99 % of the largest file that the command
writes. Every older file must be as it was or as a finished command leaves it, and the end must be one line and one of
the exit codes. A run folder must hold whole models and records, and be resumable or without a record.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from kills import COMMANDS, ROOT, command, digests, prepared, sources, started, unfit, wrong

from onnxopt.measure.runtime.environment import environment

SHARES = (0.0, 0.3, 0.7, 0.99)
_FEW = ["-d", "digits", "--limit", "64", "--steps", "2", "-o", "{w}/small.onnx", "--overwrite"]
TRAININGS = {"finetune": ["finetune", "{m}", *_FEW], "distill": ["distill", "{m}", "{m}", *_FEW]}
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1
"""Of Linux: the superuser may write into a read-only folder too."""


def ended(words: list[str], names: dict[str, Path], before: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that calls `before` first."""
    known = {**os.environ, "XDG_CACHE_HOME": str(names["r"].parent / "cache"), "HOME": str(names["r"].parent)}
    return subprocess.run(
        command(words, names), cwd=ROOT, env=known, capture_output=True, text=True, check=False, preexec_fn=before
    )


def limited(most: int) -> Callable[[], object]:
    """Return what limits the size of files of a process."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def powerless() -> None:
    """Give up the superuser's right to write everywhere, for this process and those it starts."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0):
        raise OSError("the superuser's rights cannot be given up")


def broken(of: str, place: Path, before: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Return what is not whole after a command."""
    found = wrong(of, before, digests(place), whole)
    run = place / "run"
    for path in [*run.rglob("*.onnx"), *run.rglob("*.json")] if run.exists() else []:
        try:
            onnx.load(path) if path.suffix == ".onnx" else json.loads(path.read_text())
        except Exception as error:
            found.append(f"{path.relative_to(place)}: {type(error).__name__}")
    return found + ([why] if of == "optimize" and (why := unfit(run)) else [])


def untidy(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what is wrong with how a command ended."""
    said = done.stderr.strip()
    in_order = done.returncode in (0, 5) and "Traceback" not in said and said.count("\n") == 0
    return [] if in_order else [f"exit {done.returncode}: {said[-300:]}"]


def main() -> None:
    """Fill, look, count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    faults, exits = list[str](), dict[str, dict[str, int]]()
    with tempfile.TemporaryDirectory(prefix="onnxopt-full-") as name:
        Path(name).chmod(0o755)
        place, read = Path(name) / "work", sources(Path(name))
        (Path(name) / "cache").mkdir()
        (Path(name) / "cache").chmod(0o777)
        for of, words in {**COMMANDS, **TRAININGS}.items():
            if not of.startswith(given.only):
                continue
            names = {**read, "w": prepared(place)}
            before = digests(place)
            started(words, names).wait()
            whole = digests(place)
            new = [file for file, digest in whole.items() if before.get(file) != digest]
            if not new:
                faults.append(f"{of}: writes nothing even with room")
                continue
            largest, exits[of] = max((place / file).stat().st_size for file in new), {}
            cases = {f"{share:.0%} of {largest} bytes": limited(int(share * largest)) for share in SHARES}
            for case, limit in {**cases, "read-only": powerless}.items():
                prepared(place)
                place.chmod(0o555 if case == "read-only" else 0o755)
                try:
                    done = ended(words, names, limit)
                finally:
                    place.chmod(0o755)
                exits[of][case] = done.returncode
                unchanged = whole if case != "read-only" else {}
                faults += [f"{of}, {case}: {why}" for why in (*broken(of, place, before, unchanged), *untidy(done))]
            print(f"{of}: {exits[of]}, {len(faults)} faults so far", flush=True)
        shutil.rmtree(place, ignore_errors=True)
    print("\n".join(faults))
    if given.out:
        result = {"exit_codes": exits, "faults": faults, "environment": environment()}
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
