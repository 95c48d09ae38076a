"""Mutate the bytes of model files, journals and run folders, and count how the commands that read them end.

python bench/fuzz.py --mutations 20000 --out bench/results/fuzz.json
python bench/fuzz.py --mutations 10000 --seed 1 --after bench/results/fuzz.json --out bench/results/fuzz.json

A command must end with 0, 1, 2, 3, 4 or 5 within 20 s of processor time and with at most one line on stderr; ONX901, a
traceback or a warning is a fault, and so is a file that was written and that ONNX Runtime cannot load. Each few hundred
mutations run in a separate process, forked so that nothing is imported again; a mutation at which that process dies
or hangs is repeated as a separate command, which must end in order.
"""

import argparse
import json
import multiprocessing
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx
import onnxruntime

from bench.fuzz_folders import MOST_SECONDS, commit, ended, wrong
from onnxopt import __version__
from onnxopt.errors import OnnxoptError
from onnxopt.measure.runtime import first_load
from tests.hostile.faults import bytes_of, journal_faults, run_faults
from tests.hostile.model_faults import BASES
from tests.hostile.valid import resume, valid_journal, valid_run

PATIENCE_S = 600
"""Of the time of day, for what waits without working."""

EACH = 250
"""Mutations of one process."""

SHARES = {"model": 12, "journal": 4, "run": 4}
"""Of all mutations, in twentieths."""


@dataclass(frozen=True)
class Mutation:
    """A file to write into a folder, and the words of the command that reads it; none for a journal."""

    name: str
    place: Callable[[Path], list[str]]


def model_mutations(count: int, seed: int) -> Iterator[Mutation]:
    """Return mutated models, each for one of four commands."""
    bases = {base.__name__: base().SerializeToString() for base in BASES}
    for number in range(count):
        luck = random.Random(f"{seed} model {number}")
        base = luck.choice(sorted(bases))
        # In place half of the time: where lengths stay right, what is wrong lies deeper in.
        data = bytes_of(bases[base], luck) if number // 4 % 2 else overwritten(bases[base], luck)
        yield Mutation(f"model {number} {base}", _model(data, number % 4))


def overwritten(data: bytes, luck: random.Random) -> bytes:
    """Return bytes of which one to three are others."""
    found = bytearray(data)
    for _ in range(luck.randrange(1, 4)):
        found[luck.randrange(len(found))] = luck.choice((0, 1, 2, 7, 127, 128, 255, luck.randrange(256)))
    return bytes(found)


def _model(data: bytes, command: int) -> Callable[[Path], list[str]]:
    def place(folder: Path) -> list[str]:
        path, out = str(folder / "m.onnx"), str(folder / "out.onnx")
        Path(path).write_bytes(data)
        return [
            ["check", path],
            ["inspect", path],
            ["apply", path, "--passes", "simplify", "-o", out],
            ["quantize", path, "--mode", "dynamic", "-o", out],
        ][command]

    return place


def journal_mutations(valid: bytes, count: int, seed: int) -> Iterator[Mutation]:
    """Return mutated journals."""
    for name, data in journal_faults(valid, count, seed):
        yield Mutation(name, lambda folder, data=data: (folder / "journal.jsonl").write_bytes(data) and [])


def require_valid_ends(place: Path) -> None:
    """Require that every command takes the models that are mutated: else nothing would be tested."""
    for base in BASES:
        for command in range(4):
            folder = Path(tempfile.mkdtemp(dir=place))
            code, said = ended(_model(base().SerializeToString(), command)(folder))
            if code:
                raise SystemExit(f"{base.__name__}, which is valid, ends with {int(code)}: {said}")


def mutations(given: argparse.Namespace, place: Path) -> list[Mutation]:
    """Return all mutations; places are written when each is run."""
    counts = {kind: given.mutations * share // 20 for kind, share in SHARES.items()}
    files = valid_run(place / "valid")
    folders = (Mutation(f.name, f.place) for f in run_faults(files, -(-counts["run"] // 8), given.seed))
    journal = valid_journal(place / "valid.jsonl")
    found = [
        *model_mutations(counts["model"], given.seed),
        *journal_mutations(journal, counts["journal"], given.seed),
        *folders,
    ]
    return [m for m in found if m.name.startswith(given.only)]


def once(mutation: Mutation, folder: Path) -> tuple[str, str]:
    """Run one mutation; return how it ended, and what is wrong with that, empty when nothing is."""
    words = mutation.place(folder)
    kind = mutation.name.partition(" ")[0]
    if not words:
        try:
            resume(folder / "journal.jsonl")
        except OnnxoptError as error:
            return f"{kind}: {error.code}", ""
        except Exception as error:
            return f"{kind}: fault", f"{type(error).__name__}: {error}"
        return f"{kind}: read", ""
    code, said = ended(words)
    problem = wrong(code, said)
    out = folder / "out.onnx"
    if not problem and out.exists():
        try:
            onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        except Exception as error:
            problem = f"written, but not loaded: {str(error)[:200]}"
    return f"{kind} {words[0]}: exit {int(code)}", problem


def work(part: list[Mutation], place: Path, limit: float, answers: Connection) -> None:
    """Run mutations one by one and send how each ended."""
    first_load._death = lambda path, level: ""  # a process for each model is minutes; this process is that one
    onnxruntime.set_default_logger_severity(4)
    for mutation in part:
        since = time.process_time()
        # Processor time, so that other programs on the machine make nothing late; the signal ends the process.
        resource.setrlimit(resource.RLIMIT_CPU, (int(since + limit) + 1, resource.RLIM_INFINITY))
        with tempfile.TemporaryDirectory(dir=place) as name:
            ending, problem = once(mutation, Path(name))
        answers.send((ending, problem, time.process_time() - since))


def alone(mutation: Mutation, place: Path, limit: float) -> str:
    """Run one mutation as a separate command; return what is wrong with its end."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        words = mutation.place(Path(name))
        if not words:
            return "the process that read the journal died or hung"
        command = [sys.executable, "-m", "onnxopt", *words]
        try:
            done = subprocess.run(
                command,
                cwd=Path(__file__).parents[1],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 5, resource.RLIM_INFINITY)),
            )
        except subprocess.TimeoutExpired:
            return f"no end within {PATIENCE_S} s"
        return wrong(done.returncode, done.stderr)


class Watched:
    """Runs mutations in processes and keeps how each ended."""

    def __init__(self, place: Path, limit: float) -> None:
        self.place, self.limit = place, limit
        self.codes, self.faults, self.deaths, self.slowest = Counter[str](), list[str](), 0, 0.0

    def run(self, found: list[Mutation], until: float) -> int:
        """Run mutations until a moment of the monotonic clock; return how many were."""
        waiting = list(found)
        while waiting and time.monotonic() < until:
            part, waiting = waiting[:EACH], waiting[EACH:]
            done = self._part(part)
            if done < len(part):
                self._repeat(part[done])
                waiting = part[done + 1 :] + waiting
        return len(found) - len(waiting)

    def _part(self, part: list[Mutation]) -> int:
        """Return how many of a part were done before its process died or hung."""
        answers, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=work, args=(part, self.place, self.limit, theirs))
        process.start()
        theirs.close()
        done = 0
        try:
            while done < len(part):
                if not answers.poll(PATIENCE_S):
                    break
                ending, problem, seconds = answers.recv()
                self.slowest = max(self.slowest, seconds)
                self.codes[ending] += 1
                if problem:
                    self._fault(part[done], problem)
                done += 1
        except EOFError:
            pass
        if done < len(part):
            process.kill()
        process.join()
        return done

    def _repeat(self, mutation: Mutation) -> None:
        self.deaths += 1
        problem = alone(mutation, self.place, self.limit)
        self.codes[f"{mutation.name.partition(' ')[0]}: the process died or hung"] += 1
        if problem:
            self._fault(mutation, problem)

    def _fault(self, mutation: Mutation, problem: str) -> None:
        here = f"{Path(__file__).parents[1]}/"
        self.faults.append(f"{mutation.name}: {problem.replace(here, '')}")
        print(self.faults[-1], flush=True)


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of runs with different seeds."""
    return {"mutations": sum(run["mutations"] for run in runs), "seeds": [run["seed"] for run in runs], "runs": runs}


def main() -> None:
    """Fuzz, print the faults, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=600, help="end after this time with what was done")
    parser.add_argument("--limit", type=float, default=MOST_SECONDS, help="seconds of one mutation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="mutations whose name begins so")
    parser.add_argument("--after", type=Path, help="record of mutations with other seeds, which the new one contains")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    earlier = json.loads(given.after.read_text())["runs"] if given.after else []
    if given.seed in [run["seed"] for run in earlier]:
        parser.error(f"{given.after} has mutations with the seed {given.seed}: give another --seed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onnxopt-fuzz-") as name:
        found = mutations(given, Path(name))
        random.Random(given.seed).shuffle(found)
        first = multiprocessing.get_context("fork").Process(target=require_valid_ends, args=(Path(name),))
        first.start()  # not here: the runtime's threads would be lost to the processes forked later
        first.join()
        if first.exitcode:
            sys.exit(first.exitcode)
        watched = Watched(Path(name), given.limit)
        done = watched.run(found, begun + 60 * given.minutes)
    result = {
        "mutations": done,
        "faults": watched.faults,
        "slowest_cpu_s": round(watched.slowest, 1),
        "processes_that_died_or_hung": watched.deaths,
        "endings": dict(sorted(watched.codes.items())),
        "seed": given.seed,
        "commit": commit(),
        "machine": platform.processor() or platform.machine(),
        "versions": {
            "onnxopt": __version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
    }
    print(f"{done} of {len(found)} mutations, {len(watched.faults)} faults, {time.monotonic() - begun:.0f} s")
    if given.out:
        given.out.write_text(json.dumps(together([*earlier, result]), indent=1) + "\n")


if __name__ == "__main__":
    main()
