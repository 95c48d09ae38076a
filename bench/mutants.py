"""Mutation test of the guards: does a test of the same room fail when a guard is changed?

    python bench/mutants.py [NAME_PART ...] [--minutes 40] [--numbers] [--again EARLIER.json] [--out FILE.json]

A guard is a function that decides whether a result counts: acceptance, race and screen, proof, budget, statistics,
held-out fits, undone repairs. Each mutant changes one place of one guard: a comparison, `and` or `or`, a removed `not`,
swapped branches, `min` for `max`, or a number by one. The tests of its room run in a fork of one process that has
imported them, with the mutant as the code of the function. A mutant without a failing test survives. Under a time limit
the changes of numbers come last; `--numbers` tries these alone, in random order. `--again` takes the mutants that an
earlier run killed as killed. Prints the survivors and saves all mutants as JSON under `bench/results/`.
"""

import argparse
import ast
import copy
import inspect
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from guards import GUARDS, Guard

HERE = Path(__file__).resolve().parent
WORDS = ("-qq", "-p", "no:cacheprovider")
LONGEST_S = 240
"""Time limit of the tests on one mutant; a mutant that exceeds it counts as killed."""


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


def code_of(text: str, name: str) -> CodeType:
    """Return the compiled function `name` of a module's text."""
    found = [compile(text, "mutant", "exec")]
    for code in found:
        if code.co_qualname == name:
            return code
        found += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    raise SystemExit(f"no function {name}")


def passes(guard: Guard, mutant: tuple[str, str] | None = None) -> bool:
    """Return whether the tests of a guard's room pass, in a fork of this process that has imported all of them."""
    child = os.fork()
    if not child:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        if mutant is not None:
            name = mutant[0].partition(":")[0]
            place: Any = import_module("onnxopt." + guard.file.removesuffix(".py").replace("/", "."))
            for part in name.split("."):
                place = inspect.getattr_static(place, part)
            getattr(place, "fget", place).__code__ = code_of(mutant[1], name)
        os._exit(int(pytest.main([*WORDS, "-x", *(f"tests/{t}" for t in guard.tests)])))
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def killed_before(record: Path | None) -> set[tuple[str, str]]:
    """Return files and descriptions of mutants that an earlier run killed, without those of which a twin survived."""
    if record is None:
        return set()
    earlier = json.loads(record.read_text())
    kills, lives = (
        {(file, words) for file, some in earlier[name].items() for words in some} for name in ("kills", "survivors")
    )
    return kills - lives


def main() -> int:
    """Mutate the guards; write the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of file names")
    parser.add_argument("--minutes", type=float, default=40, help="time limit")
    parser.add_argument("--numbers", action="store_true", help="change numbers alone, in random order (seed 0)")
    parser.add_argument("--again", type=Path, help="record of an earlier run of the same functions")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today().isoformat()}-mutants.json")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    chosen = [g for g in GUARDS if not options.only or any(part in g.file for part in options.only)]
    os.chdir(HERE.parent)
    sys.path.insert(0, str(HERE.parent))
    if pytest.main([*WORDS, "--collect-only", *{f"tests/{test}" for guard in chosen for test in guard.tests}]):
        raise SystemExit("the tests cannot be collected")
    for guard in chosen:
        if not passes(guard):
            raise SystemExit(f"the tests of {guard.file} fail without a mutant")
    by_guard = [[(g, m) for m in mutants((Path("onnxopt") / g.file).read_text(), g.names)] for g in chosen]
    turns = [mutant for turn in zip_longest(*by_guard) for mutant in turn if mutant is not None]
    all_ = sorted(turns, key=lambda turn: _is_number(turn[1][0]))
    if options.numbers:
        all_ = [turn for turn in all_ if _is_number(turn[1][0])]
        random.Random(0).shuffle(all_)
    killed, survived = dict[str, list[str]](), dict[str, list[str]]()
    known = killed_before(options.again)
    for guard, mutant in all_:
        before = (guard.file, mutant[0]) in known
        if time.monotonic() > until and not before:
            continue
        lives = not before and passes(guard, mutant)
        (survived if lives else killed).setdefault(guard.file, []).append(mutant[0])
        if lives:
            print(f"survives: {guard.file} {mutant[0]}", flush=True)
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
