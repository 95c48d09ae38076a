"""How commands ended on odd things, in a record that is written as it goes and continued after a stop."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.fuzz_folders import commit
from onnxopt.measure.runtime.environment import environment


@dataclass
class Counts:
    """Endings of commands so far.

    Attributes:
        about: the options that make the odd things and their commands; a record about others is not continued.
        odd: odd things done, of their list from the beginning.
        commits: the commits that were tested, oldest first.
    """

    about: Mapping[str, Any]
    odd: int = 0
    commands: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    exits: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    slowest: dict[str, list[float]] = field(default_factory=dict)
    total_s: Counter[str] = field(default_factory=Counter)
    commits: list[str] = field(default_factory=list)

    @classmethod
    def continued(cls, about: Mapping[str, Any], record: Mapping[str, Any] | None) -> Self:
        """Return the counts of a record about the same that was stopped, else new ones."""
        here = commit()
        if record is None or record["about"] != about or record["odd"] >= about["odd_in_set"]:
            return cls(about, commits=[here])
        found = cls(about, record["odd"], record["runs_of_commands"], record["seconds"], list(record["faults"]))
        for name, counts in record["exit_codes"].items():
            found.exits[name] = Counter(counts)
        found.slowest, found.total_s = dict(record["slowest_cpu_and_day_s"]), Counter(record["total_day_s"])
        found.commits = [*(one for one in record["commits"] if one != here), here]
        return found

    def add(self, name: str, code: int, cpu_s: float, day_s: float) -> None:
        """Count an ending."""
        self.commands += 1
        self.exits[name][str(code)] += 1
        self.slowest[name] = max(self.slowest.get(name, [0.0, 0.0]), [round(cpu_s, 2), round(day_s, 2)])
        self.total_s[name] += day_s

    def record(self) -> dict[str, Any]:
        """Return the record."""
        return {
            "about": dict(self.about),
            "odd": self.odd,
            "runs_of_commands": self.commands,
            "faults": self.faults,
            "exit_codes": {name: dict(sorted(found.items())) for name, found in self.exits.items()},
            "slowest_cpu_and_day_s": self.slowest,
            "total_day_s": {name: round(total, 1) for name, total in self.total_s.items()},
            "seconds": round(self.seconds),
            "commits": self.commits,
            "environment": environment(),
        }


def read(path: Path | None) -> dict[str, Any]:
    """Return the records of a file, none where there is no file."""
    found: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
    return found


def write(path: Path, records: Mapping[str, Any]) -> None:
    """Write records whole: a stop in the middle leaves the older ones."""
    part = path.with_name(f".{path.name}")
    part.write_text(json.dumps(records, indent=1) + "\n")
    part.replace(path)
