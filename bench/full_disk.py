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
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.fuzz_folders import commit
from bench.writers import COMMANDS, ROOT, command, digests, prepared, sources, started, wrong
from onnxopt.measure.runtime.environment import environment

SHARES = (0.0, 0.3, 0.7, 0.99)
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1
"""Of Linux: the superuser may write into a read-only folder too."""


def ended(words: str, names: dict[str, Path], before: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that calls `before` first."""
    known = {**os.environ, "XDG_CACHE_HOME": str(names["r"] / "cache"), "HOME": str(names["r"])}
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


def untidy(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what is wrong with how a command ended."""
    said = done.stderr.strip()
    in_order = done.returncode in (0, 5) and "Traceback" not in said and said.count("\n") == 0
    return [] if in_order else [f"exit {done.returncode}: {said[-300:]}"]


def opened(place: Path, mode: int) -> None:
    """Give a folder and those in it a mode."""
    for folder in (place, *(path for path in place.rglob("*") if path.is_dir())):
        folder.chmod(mode)


def filled(of: str, names: dict[str, Path]) -> dict[str, object]:
    """Run a command where each part of its largest file fits, and where its folder is read-only."""
    place, words = prepared(names), COMMANDS[of]
    before = digests(place)
    started(words, names).join()
    whole = digests(place)
    new = [file for file, digest in whole.items() if before.get(file) != digest]
    if not new:
        return {"exit_codes": {}, "faults": ["writes nothing even with room"]}
    largest, exits, faults = max((place / file).stat().st_size for file in new), dict[str, int](), list[str]()
    cases = {f"{share:.0%} of {largest} bytes": limited(int(share * largest)) for share in SHARES}
    for case, limit in {**cases, "read-only": powerless}.items():
        prepared(names)
        opened(place, 0o555 if case == "read-only" else 0o755)
        try:
            done = ended(words, names, limit)
        finally:
            opened(place, 0o755)
        exits[case] = done.returncode
        after = whole if case != "read-only" else {}
        faults += [f"{case}: {why}" for why in (*wrong(of, place, before, after), *untidy(done))]
    return {"exit_codes": exits, "faults": faults}


def main() -> None:
    """Fill, look, count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    record = json.loads(given.out.read_text()) if given.out and given.out.exists() else {"commands": {}}
    with tempfile.TemporaryDirectory(prefix="onnxopt-full-") as name:
        Path(name).chmod(0o755)
        (Path(name) / "cache").mkdir()
        (Path(name) / "cache").chmod(0o777)
        names = sources(Path(name))
        for of in given.only:
            row = filled(of, names)
            record["commands"][of] = {**row, "commit": commit()}
            record["environment"] = environment()
            print(f"{of}: {row}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
