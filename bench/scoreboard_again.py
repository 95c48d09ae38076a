"""Rows of a record measured again: the command of one row, and the intervals that must overlap."""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Record = Mapping[str, Any]
Intervals = Mapping[str, tuple[float, float] | None]
"""By name of a figure: the ends of its interval; None where the clock was unsure."""


@dataclass(frozen=True)
class Bench:
    """One bench, as far as its rows can be measured again.

    Attributes:
        rows: key of the list of rows in its record.
        name: key of a row's name.
        command: name of a row and settings of the record to the words of the command, without `--out`.
        intervals: figures of a row.
    """

    rows: str
    name: str
    command: Callable[[str, Record], Sequence[str]]
    intervals: Callable[[Record], Intervals]


def ends(interval: Any) -> tuple[float, float] | None:
    if interval is None:
        return None
    return (interval["low"], interval["high"]) if isinstance(interval, dict) else (interval[0], interval[-1])


def _searched(row: Record) -> Intervals:
    return {kind: ends(row["rows"]["onnxopt"][kind]) for kind in ("drop_interval", "speedup")}


def _per_file(speed: str, drop: str) -> Callable[[Record], Intervals]:
    """Return the intervals of every file of a row, under `speed` and, where it is there, `drop`."""

    def intervals(row: Record) -> Intervals:
        found = ((f"{name} {kind}", ends(one[kind])) for name, one in row["rows"].items() for kind in (speed, drop)
                 if kind in one)  # fmt: skip
        return dict(found)

    return intervals


BENCHES: Mapping[str, Bench] = {
    "optimize": Bench(
        "models",
        "model",
        lambda name, s: ("optimize.py", name, "--prune", "--time-limit", str(s["time_limit"])),
        _searched,
    ),
    "optimize-train": Bench(
        "models",
        "model",
        lambda name, s: ("optimize.py", name, "--prune", "--train", "--time-limit", str(s["time_limit"])),
        _searched,
    ),
    "quantize": Bench(
        "models",
        "model",
        lambda name, _: ("quantize.py", name, "--without", "onnxopt-high", "--most", "1000", "--seconds", "6"),
        _per_file("speedup_interval", "drop_interval"),
    ),
    "deployed-int8": Bench("models", "model", lambda name, _: ("deployed_int8.py", name), _per_file("speedup", "")),
    "classic": Bench("models", "model", lambda name, _: ("classic.py", name), _per_file("speedup", "interval")),
    "repair": Bench(
        "rows",
        "file",
        lambda name, _: ("repair.py", str(HERE / "build" / "repair" / f"{name}.onnx")),
        lambda row: {"speed-up": ends(row.get("interval"))},
    ),
}
"""By kind of record."""


def again(kind: str, name: str, record: tuple[Path, Record] | None) -> int:
    """Measure one row again, a random one without a name; return 0 where all its intervals overlap, else 1.

    Raises:
        SystemExit: there is no such record or row, or it could not be measured.
    """
    if kind not in BENCHES:
        raise SystemExit(f"rows of {kind} cannot be measured again alone; kinds: {', '.join(BENCHES)}")
    if record is None:
        raise SystemExit(f"there is no record of {kind} to compare with")
    bench, (path, content) = BENCHES[kind], record
    rows = {row[bench.name]: row for row in content[bench.rows]}
    if name and name not in rows:
        raise SystemExit(f"there is no row {name} in {path.name}; rows: {', '.join(rows)}")
    chosen = name or random.choice(list(rows))
    found = _measured(bench, chosen, content.get("settings") or {})
    if found is None:
        raise SystemExit(f"{chosen} could not be measured again")
    return 0 if agrees(chosen, bench.intervals(rows[chosen]), bench.intervals(found)) else 1


def agrees(name: str, before: Intervals, now: Intervals) -> bool:
    """Print both intervals of every figure; return whether all overlap that are known on both sides."""
    fine = True
    for kind, one in before.items():
        other = now.get(kind)
        overlap = one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])
        fine &= overlap
        print(f"{name}: {kind} {one} before, {other} now: {'agrees' if overlap else 'DIFFERS'}")
    return fine


def _measured(bench: Bench, name: str, settings: Record) -> Record | None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "again.json"
        script, *words = bench.command(name, settings)
        subprocess.run([sys.executable, str(HERE / script), *words, "--out", str(out)], check=False)
        if not out.exists():
            return None
        return next((row for row in json.loads(out.read_text())[bench.rows] if row[bench.name] == name), None)
