"""Mutation test of the guards: does a test of the same room fail when a guard is changed?

    python bench/mutants.py [NAME_PART ...] [--minutes 40] [--jobs 1] [--out FILE.json]

A guard is a function that decides whether a result counts: acceptance, race and screen, proof, budget, statistics,
held-out fits, undone repairs. Each mutant changes one place of one guard: a comparison, `and` or `or`, a removed `not`,
swapped branches, `min` for `max`, or a number by one. The tests of its room run on a copy of the checkout with the
mutant in it. A mutant without a failing test survives. Under a time limit the changes of numbers come last. Prints the
survivors and saves all mutants as JSON under `bench/results/`. Needs `os.fork`.
"""

import argparse
import ast
import copy
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue

import hypothesis  # noqa: F401  # with the others, imported once for all mutants
import onnx_ir.passes.common  # noqa: F401
import onnxruntime  # noqa: F401
import pydantic  # noqa: F401
import pytest
import scipy.stats  # noqa: F401

HERE = Path(__file__).resolve().parent
LONGEST_S = 240
"""Time limit of the tests on one mutant; a mutant that exceeds it counts as killed."""


@dataclass(frozen=True)
class Guard:
    """Functions of one file that decide, and the tests of their room.

    Attributes:
        file: path below `onnxopt/`.
        names: functions, or methods as `Class.method`.
        tests: words for pytest, paths below `tests/`.
    """

    file: str
    names: tuple[str, ...]
    tests: tuple[str, ...]


GUARDS = (
    Guard(
        "search/acceptance.py",
        tuple(
            f"Acceptance.{n}" for n in ("verdict", "_doubt", "accurate", "asked", "attempts", "standing", "finalists")
        ),
        ("search/test_acceptance.py", "search/test_unsure.py"),
    ),
    Guard("search/race.py", ("Race.__init__", "Race.__call__", "Race.least_drop", "race_of"), ("search/test_race.py",)),
    Guard("search/screen.py", ("Screen.refusal",), ("search/test_screen.py",)),
    Guard("search/front.py", ("extremes", "_beats", "_costs"), ("search/test_front.py",)),
    Guard("search/stages.py", ("left_for_later", "_far_beyond", "_longer_than"), ("search/test_left_for_later.py",)),
    Guard(
        "search/holdout.py",
        ("timed_as_last", "held_out", "affordable", "drawn"),
        ("search/test_early_proof.py", "search/test_time_limit.py"),
    ),
    Guard(
        "search/limits/reserve.py",
        ("Reserve.least_s", "Reserve.kept_s", "Reserve.samples", "Reserve.another_fits"),
        ("search/test_time_limit.py",),
    ),
    Guard(
        "measure/statistics.py",
        (
            *("Interval.excludes", "flip_draws", "share_draws", "probability_within"),
            *(f"Drop.{n}" for n in ("evened_out", "within", "probability_within")),
        ),
        ("measure/test_statistics.py",),
    ),
    Guard("measure/latency/tails.py", ("upper_bound",), ("measure/latency/test_clock_parts.py",)),
    Guard(
        "measure/latency/estimate.py",
        ("undisturbed", "restless", "waiting_share", "middle_mean"),
        ("measure/latency/test_clock_parts.py",),
    ),
    Guard("measure/latency/summary.py", ("_busy", "too_wide"), ("measure/latency/test_clock_parts.py",)),
    Guard("repairs/mending.py", ("_unlike", "_worth", "_unmeasured"), ("repairs/test_mending.py",)),
    Guard("reconstruction/fit.py", ("Fit.helped",), ("reconstruction/test_fit.py",)),
    Guard("reconstruction/low_rank/fit.py", ("refitted",), ("reconstruction/test_refit.py",)),
    Guard("quantization/rounding/blockwise.py", ("shrunk",), ("quantization/rounding/test_blockwise.py",)),
)

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
_OTHER = {"min": "max", "max": "min", "any": "all", "all": "any"}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the mutated forms of one node."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare):
        for i, op in enumerate(new.ops):
            one = copy.deepcopy(new)
            one.ops[i] = _FLIPPED[type(op)]()
            yield one
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        yield new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not):
        yield new.operand
    elif isinstance(new, ast.IfExp):
        new.body, new.orelse = new.orelse, new.body
        yield new
    elif isinstance(new, ast.If):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield new
    elif isinstance(new, ast.Constant) and type(new.value) in (int, float):
        yield from (ast.Constant(new.value + step) for step in (1, -1))
    elif isinstance(new, ast.Name) and new.id in _OTHER:
        yield ast.Name(_OTHER[new.id], new.ctx)


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a module by name, methods as `Class.method`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{f.name}", f) for f in node.body if isinstance(f, ast.FunctionDef))


def mutants(source: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield a description of each mutant of the named functions, and the mutated module."""
    found = dict(functions(ast.parse(source)))
    missing = set(names) - set(found)
    if missing:
        raise SystemExit(f"no function {', '.join(sorted(missing))}")
    for name in names:
        spots = [node for statement in found[name].body for node in ast.walk(statement)]
        for spot, old in enumerate(spots):
            for new in changes(old):
                yield _description(name, old, new), _replaced(source, name, spot, new)


def _description(name: str, old: ast.AST, new: ast.AST) -> str:
    before, after = (ast.unparse(node).split("\n")[0] for node in (old, new))
    return f"{name}:{getattr(old, 'lineno', 0)}: {before} -> {after}"


def _replaced(source: str, name: str, spot: int, new: ast.AST) -> str:
    tree = ast.parse(source)
    body = dict(functions(tree))[name].body
    old = [node for statement in body for node in ast.walk(statement)][spot]

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return new if node is old else self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Swap().visit(tree)))


def passes(place: Path, tests: tuple[str, ...]) -> bool:
    """Return whether the tests pass on the checkout in `place`; the libraries are imported once, before the fork."""
    child = os.fork()
    if not child:
        os.chdir(place)
        sys.path.insert(0, str(place))
        sys.dont_write_bytecode = True
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/{t}" for t in tests)])))
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def run(place: Path, mutant: tuple[Guard, str, str]) -> bool:
    """Return whether the tests of a guard's room pass with the mutant in the checkout in `place`."""
    guard, _, text = mutant
    file = place / "onnxopt" / guard.file
    source, times = file.read_bytes(), file.stat()
    file.write_text(text)
    try:
        return passes(place, guard.tests)
    finally:
        file.write_bytes(source)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the compiled file of the copy stays valid


def tried(all_: list[tuple[Guard, str, str]], jobs: int, until: float) -> Iterator[tuple[Guard, str, bool]]:
    """Yield each mutant with whether it survives, up to the time limit; every job has its own copy of the checkout."""
    with tempfile.TemporaryDirectory() as name:
        free = SimpleQueue[Path]()
        for job in range(jobs):
            for folder in ("onnxopt", "tests", "models"):
                shutil.copytree(HERE.parent / folder, Path(name) / str(job) / folder)
            shutil.copy(HERE.parent / "pyproject.toml", Path(name) / str(job))
            free.put(Path(name) / str(job))
        place = free.get()
        for guard in {guard for guard, *_ in all_}:
            if not passes(place, guard.tests):
                raise SystemExit(f"the tests of {guard.file} fail without a mutant")
        free.put(place)

        def one(mutant: tuple[Guard, str, str]) -> tuple[Guard, str, bool] | None:
            if time.monotonic() > until:
                return None
            place = free.get()
            try:
                return *mutant[:2], run(place, mutant)
            finally:
                free.put(place)

        with ThreadPoolExecutor(jobs) as pool:
            yield from (result for result in pool.map(one, all_) if result is not None)


def main() -> int:
    """Mutate the guards; write the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of file names")
    parser.add_argument("--minutes", type=float, default=40, help="time limit")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today().isoformat()}-mutants.json")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    chosen = [g for g in GUARDS if not options.only or any(part in g.file for part in options.only)]
    by_guard = [[(g, *m) for m in mutants((HERE.parent / "onnxopt" / g.file).read_text(), g.names)] for g in chosen]
    turns = [mutant for turn in zip_longest(*by_guard) for mutant in turn if mutant is not None]
    all_ = sorted(turns, key=lambda mutant: _is_number(mutant[1]))
    killed, survived = dict[str, list[str]](), dict[str, list[str]]()
    for guard, words, lives in tried(all_, options.jobs, until):
        (survived if lives else killed).setdefault(guard.file, []).append(words)
        if lives:
            print(f"survives: {guard.file} {words}", flush=True)
    counts = [sum(map(len, part.values())) for part in (killed, survived)]
    score = {"mutants": len(all_), "killed": counts[0], "survived": counts[1], "not_tried": len(all_) - sum(counts)}
    options.out.write_text(json.dumps({**score, "survivors": survived, "kills": killed}, indent=1) + "\n")
    print(f"{counts[0]} of {sum(counts)} mutants killed, {score['not_tried']} not tried")
    return 0


def _is_number(words: str) -> bool:
    """Return whether a mutant changes a number."""
    return words.rpartition(" -> ")[2].replace(".", "").replace("-", "").isdigit()


if __name__ == "__main__":
    sys.exit(main())
