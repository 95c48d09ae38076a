"""Run every command on every odd model, on odd samples and run folders, and on models that ONNX Runtime refuses.

python bench/fault_grid.py --set faults --count 400 --out bench/results/fault-grid.json
python bench/fault_grid.py --set refused --each 2 --out bench/results/fault-grid.json

Sets: `faults` (models of one fault each, and models that name a secret outside of their folder), `refused` (backend
models of the onnx package, and faults, that ONNX Runtime does not load; commands that write a model), `data` (samples)
and `folders` (runs). A command must end with 0 to 5, within 20 s of processor time, and with at most one line on
stderr; each model it wrote must load in ONNX Runtime; a command that failed leaves nothing; nothing outside of the
named folders is opened (by Python, audited) or part of a written file. Each odd thing has a process of its own, and one
in which ONNX Runtime loads it first: forked, in place of the new interpreter that commands start (tests/cli has that).
"""

import argparse
import contextlib
import functools
import gc
import itertools
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import onnxruntime
import typer

from bench import fault_sets
from bench.fault_commands import RUNS
from bench.fault_counts import Counts, read, write
from bench.fault_sets import Odd, lines
from bench.fuzz_folders import ended, wrong
from bench.writers import imported
from onnxopt.cli.app import app
from onnxopt.measure.runtime import first_load
from onnxopt.options.runtime import OPTIMIZATIONS
from tests.hostile.secrets import SECRET
from tests.hostile.valid import valid_run

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 20.0
PATIENCE_S = 120.0
"""Of the time of day, for what waits without working."""

SETS = ("faults", "refused", "data", "folders")
_OPENED, _HERE = list[str](), list[str]()
_SYSTEM = ("/proc", "/sys", "/dev/null", "/dev/urandom", "/usr", "/lib", "/etc", "/opt", "/run")


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep the paths that are opened outside of the allowed folders, and those written outside of the named one."""
    if not _HERE or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path, flags = str(Path(os.fsdecode(arguments[0])).resolve()), arguments[2] or 0
    writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    readable = (_HERE[0], str(ROOT), sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix), *_SYSTEM)
    if not path.startswith((_HERE[0], "/dev/null") if writes else readable) or "/canary/" in path:
        _OPENED.append(f"{'writes' if writes else 'reads'} {path}")


def unloadable(out: Path) -> Iterator[str]:
    """Yield what is wrong with the files that a command wrote: models that do not load, a secret."""
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if SECRET in path.read_bytes():
            yield f"{path.relative_to(out)} holds the secret"
        if path.suffix in (".onnx", ".ort"):
            try:
                onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            except Exception as error:
                yield f"{path.relative_to(out)} is written, but not loaded: {str(error)[:200]}"


def problems(name: str, code: int, said: str, out: Path) -> list[str]:
    """Return what is wrong with how a command ended."""
    found = [wrong(code, said)] if wrong(code, said) else []
    found += [] if code < 2 or not said or said.startswith("ONX") else [f"no code: {said.strip()[:200]}"]
    found += unloadable(out)
    if code >= 2 and name != "optimize" and (left := [str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()]):
        found += [f"exit {code}, but left {', '.join(left)}"] if not left[0].startswith("run/") else []
    return [*found, *dict.fromkeys(_OPENED)]


class FirstLoads:
    """A process, forked before a session has threads, that forks another for each first load of a file."""

    def __init__(self) -> None:
        self.asked, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self._serve, args=(theirs,))
        self.process.start()
        theirs.close()

    def _serve(self, theirs: Connection) -> None:
        self.asked.close()
        fork = multiprocessing.get_context("fork")
        while True:
            try:
                path, level = theirs.recv()
            except EOFError:
                return
            loader = fork.Process(target=_load, args=(path, level))
            loader.start()
            loader.join(first_load.PATIENCE_S)
            theirs.send(loader.exitcode)
            loader.kill()
            loader.join()

    def close(self) -> None:
        """End the process."""
        self.asked.close()
        self.process.join()

    def death(self, path: str, level: str) -> str:
        """Return how a process ended in which the runtime loaded a file, empty where it lived."""
        self.asked.send((path, level))
        code = self.asked.recv()
        return f"the process that loaded it was ended by signal {-code}" if code is not None and code < 0 else ""


def _load(path: str, level: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, OPTIMIZATIONS[level])
    with contextlib.suppress(Exception):
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    os._exit(0)


def work(odd: Odd, place: Path, *, skip: int, loaded: bool, answers: Connection) -> None:
    """Send how each command ends on something odd, without the first ones."""
    onnxruntime.set_default_logger_severity(4)
    for name in ("in", "out", "tmp"):
        (place / name).mkdir()
    os.environ.update({"TMPDIR": str(place / "tmp"), "XDG_CACHE_HOME": str(place / "tmp")})
    tempfile.tempdir = None
    os.chdir(place)  # the root of a repository, to `init --github`
    names = odd.place(place)
    with contextlib.closing(FirstLoads()) as loads:
        # Where the set is of models that were loaded, the runtime loaded, or refused, each in a process already.
        first_load._death = (lambda path, level: "") if loaded else loads.death
        _HERE[:] = [str(place)]
        for name, command in lines(odd, names)[skip:]:
            answers.send((name, *_one(name, command, place)))


def _one(name: str, command: list[str], place: Path) -> tuple[int, list[str], float, float]:
    for left in (place / "out").iterdir():
        if left.name != "run" or not command[1].startswith(str(left)):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    given = set((place / "in").iterdir())
    _OPENED.clear()
    cpu, day = sum(os.times()[:4]), time.monotonic()
    code, said = ended(command)
    cpu, day = sum(os.times()[:4]) - cpu, time.monotonic() - day
    for beside in set((place / "in").iterdir()) - given:
        beside.rename(place / "out" / beside.name)
    return int(code), problems(name, code, said, place / "out"), cpu, day


class Grid:
    """Runs odd things in processes, and counts how each command ended."""

    def __init__(self, place: Path, counts: Counts, *, loaded: bool) -> None:
        self.place, self.counts, self.loaded = place, counts, loaded

    def run(self, odd: Odd) -> None:
        """Run all commands on something odd; one at which its process dies or hangs is left out in the next one."""
        done, names = 0, list(odd.commands)
        while done < len(names):
            done += self._some(odd, done)
            if done < len(names):
                self._fault(f"{odd.name}, {names[done]}: the process died, or did not end within {PATIENCE_S:.0f} s")
                done += 1
        self.counts.odd += 1

    def _some(self, odd: Odd, skip: int) -> int:
        answers, theirs = multiprocessing.Pipe(duplex=False)
        place = Path(tempfile.mkdtemp(dir=self.place))
        given = {"skip": skip, "loaded": self.loaded, "answers": theirs}
        process = multiprocessing.get_context("fork").Process(target=work, args=(odd, place), kwargs=given)
        process.start()
        theirs.close()
        answered = 0
        try:
            while skip + answered < len(odd.commands) and answers.poll(PATIENCE_S):
                self._note(odd, *answers.recv())
                answered += 1
        except EOFError:
            pass
        finally:
            process.kill() if skip + answered < len(odd.commands) else None
            process.join()
            shutil.rmtree(place, ignore_errors=True)
        return answered

    def _note(self, odd: Odd, name: str, code: int, wrongs: Sequence[str], cpu_s: float, day_s: float) -> None:
        self.counts.add(name, code, cpu_s, day_s)
        late = [f"took {cpu_s:.0f} s of processor time"] if cpu_s > MOST_SECONDS else []
        for why in (*wrongs, *late):
            self._fault(f"{odd.name}, {name}: {why}")

    def _fault(self, text: str) -> None:
        self.counts.faults.append(text.replace(str(self.place), "...").replace(f"{ROOT}/", ""))
        print(f"{time.strftime('%H:%M')} {self.counts.faults[-1]}", flush=True)


def members(given: argparse.Namespace, place: Path) -> list[Odd]:
    """Return the odd things of a set."""
    makers: dict[str, Callable[..., Iterator[Odd]]] = {
        "faults": fault_sets.faults, "refused": fault_sets.refused, "data": fault_sets.data,
    }  # fmt: skip
    if given.set == "folders":
        found = list(fault_sets.folders(given.count, given.seed, valid_run(place / "valid")))
    else:
        found = list(makers[given.set](given.count, given.seed))
    found = [odd for odd in found if given.only in odd.name]
    wanted = given.commands
    found = [replace(odd, commands={k: v for k, v in odd.commands.items() if k in (wanted or [k])}) for odd in found]
    return by_turns(found, given.each, given.seed) if given.each else found


def by_turns(found: Sequence[Odd], each: int, seed: int) -> list[Odd]:
    """Return every odd thing with so many of its commands: they take turns, in a random order, so all come as often.

    Commands on the folder that `optimize` leaves come with it.
    """
    names = list(dict.fromkeys(name for odd in found for name in odd.commands))
    names = [name for name in names if name not in RUNS or "optimize" not in names]
    random.Random(seed).shuffle(names)
    turns, chosen = itertools.cycle(names), list[Odd]()
    for odd in found:
        own = [name for name in itertools.islice(turns, each) if name in odd.commands]
        own += [name for name in RUNS if name in odd.commands and name not in own and "optimize" in own]
        chosen.append(replace(odd, commands={name: odd.commands[name] for name in own}))
    return chosen


def about(given: argparse.Namespace, found: Sequence[Odd]) -> dict[str, Any]:
    """Return the options of a record that decide what is run."""
    names = ("set", "count", "each", "seed", "only", "commands")
    return {**{name: getattr(given, name) for name in names}, "odd_in_set": len(found)}


def run_all(given: argparse.Namespace, found: Sequence[Odd], place: Path) -> Counts:
    """Run a set, or the rest of it that a stopped run left, and keep the record after each odd thing."""
    begun, records = time.monotonic(), read(given.out)
    few = [f"{given.each} commands each"] if given.each else []
    key = ", ".join([given.set, *few, *([f"of {given.only}"] if given.only else []), *given.commands])
    counts = Counts.continued(about(given, found), records.get(key))
    grid, before = Grid(place, counts, loaded=given.set == "refused"), counts.seconds
    for odd in found[counts.odd :]:
        if counts.odd % 20 == 0:
            print(f"{counts.odd} of {len(found)}", flush=True)
        if time.monotonic() > begun + 60 * given.minutes:
            break
        grid.run(odd)
        counts.seconds = before + time.monotonic() - begun
        if given.out:
            write(given.out, {**records, key: counts.record()})
    return counts


def main() -> None:
    """Run, print what is wrong, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--set", choices=SETS, default="faults")
    parser.add_argument("--count", type=int, default=400, help="faults of the set, but for `refused`")
    parser.add_argument("--each", type=int, default=0, help="so many commands for each odd thing, by turns; 0 for all")
    parser.add_argument("--minutes", type=float, default=600, help="end after this time; the same words go on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="odd things whose name has this in it")
    parser.add_argument(
        "--commands", nargs="*", default=[], help="names of commands in fault_commands.py; all if empty"
    )
    parser.add_argument("--out", type=Path, help="the record; where it has a part of the same run, the rest is run")
    given = parser.parse_args()
    imported()
    # Of a failing command nearly all of the time is that for the words of all commands, which are the same each time.
    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(app)
    sys.addaudithook(listen)
    with tempfile.TemporaryDirectory(prefix="onnxopt-grid-") as name:
        found = members(given, Path(name))
        gc.freeze()  # so that collections in forked processes copy none of these pages
        counts = run_all(given, found, Path(name))
    ended = f"{counts.odd} of {len(found)}, {counts.commands} commands, {len(counts.faults)} faults"
    print(f"{ended}, {counts.seconds:.0f} s")


if __name__ == "__main__":
    main()
