"""Kill commands that write at random moments, and look whether what was there is still whole.

python bench/kills.py --times 30 --out bench/results/kills.json
python bench/kills.py --times 30 --only resume --out bench/results/kills.json

After every SIGKILL each older file must be as it was or as a finished command leaves it, and nothing but hidden files
and folders may be new beside them, except in the folder of a search, which must be resumable or empty. Commands are
forked from a process that imported the libraries, so that kills hit their work; a kill after the end is repeated. A
record keeps the rows of others.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.fuzz_folders import commit
from bench.writers import COMMANDS, digests, imported, prepared, sources, started, wrong
from onnxopt.measure.runtime.environment import environment

_MOST_TRIES = 2
"""Of the kills that hit a command alive: the others come after its end."""


def killed(of: str, names: dict[str, Path], times: int, luck: random.Random) -> dict[str, object]:
    """Kill a command until `times` kills hit it alive; return how many did, how long it takes, and what was broken."""
    prepared(names)
    since = time.monotonic()
    process = started(COMMANDS[of], names)
    process.join()
    takes, whole, code = time.monotonic() - since, digests(names["w"]), process.exitcode
    faults = [] if code in (0, 1) else [f"exit {code} of a command that is not killed"]
    alive = tries = 0
    while alive < times and tries < _MOST_TRIES * times:
        tries += 1
        before = digests(prepared(names))
        since, process = time.monotonic(), started(COMMANDS[of], names)
        # Most of a command is work in memory; half of the kills aim at its end, where it writes.
        share = luck.random() if luck.random() < 0.5 else luck.uniform(0.85, 1.05)
        process.join(takes * share)
        alive += process.is_alive()
        # Another load of the machine moves the end.
        takes = takes * max(1.0, share) if process.is_alive() else time.monotonic() - since
        process.kill()
        process.join()
        faults += wrong(of, names["w"], before, whole)
    return {"kills": tries, "killed_alive": alive, "takes_s": round(takes, 2), "faults": faults}


def main() -> None:
    """Kill, look, count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=30, help="kills of each command while it is alive")
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    imported()
    record = json.loads(given.out.read_text()) if given.out and given.out.exists() else {"commands": {}}
    with tempfile.TemporaryDirectory(prefix="onnxopt-kills-") as name:
        names = sources(Path(name))
        for of in given.only:
            row = killed(of, names, given.times, random.Random(of))
            record["commands"][of] = {**row, "commit": commit()}
            record["environment"] = environment()
            print(f"{of}: {row}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
