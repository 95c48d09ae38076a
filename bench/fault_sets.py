"""Models, samples and run folders with a fault, for bench/fault_grid.py."""

import itertools
import multiprocessing
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnxruntime

from bench.backend_models import node_cases, stored_cases
from bench.fault_commands import DATA_READERS, MODELS, OF_MODEL, RUN_READERS, paths, words
from tests.hostile.faults import data_faults, run_faults, valid_data
from tests.hostile.model_faults import every_fault
from tests.hostile.secrets import PLACES, WAYS, lead_out
from tests.hostile.valid import MODEL

CASES = Path(__file__).parents[2] / "shared" / "cases"
SHAPES = {"mlp": (16, 4), "cnn": (16, 2, 6, 6), "branches": (16, 4), "functions": (16, 4)}


@dataclass(frozen=True)
class Odd:
    """Something with a fault, the commands for it, and what puts it into a folder and returns their names."""

    name: str
    place: Callable[[Path], dict[str, str]]
    commands: dict[str, str] = field(default_factory=lambda: OF_MODEL)


def faults(count: int, seed: int) -> Iterator[Odd]:
    """Return models of one fault each, equally often of each kind of fault and base, and those that name a secret."""
    yield from secrets()
    kinds = dict[str, list[tuple[str, bytes]]]()
    for fault in {fault.data: fault for fault in every_fault()}.values():
        base, _, _, kind = fault.name.split("-", 3)
        kinds.setdefault(f"{base} {kind}", []).append((fault.name, fault.data))
    luck, found = random.Random(seed), list[tuple[str, bytes]]()
    for of_kind in kinds.values():
        luck.shuffle(of_kind)
    longest = max(map(len, kinds.values()))
    found = [of_kind[turn] for turn in range(longest) for of_kind in kinds.values() if turn < len(of_kind)]
    for name, data in found[:count]:
        yield Odd(name, _model(data, SHAPES[name.partition("-")[0]]))


def _model(data: bytes, shape: tuple[int, ...] | None) -> Callable[[Path], dict[str, str]]:
    def place(folder: Path) -> dict[str, str]:
        at = paths(folder)
        at["m"].write_bytes(data)
        names = {key: str(path) for key, path in at.items()}
        if shape is None:
            return {**names, "d": "random:16"}
        numbers = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.savez(at["d"], x=numbers, label=np.arange(len(numbers)) % 3)
        return names

    return place


def secrets() -> Iterator[Odd]:
    """Return models whose tensors name a file outside of their folder."""
    for (base, number), way in itertools.product(PLACES, WAYS):
        yield Odd(f"secret {base} {number} {way}", _secret(base, number, way))


def _secret(base: str, number: int, way: str) -> Callable[[Path], dict[str, str]]:
    def place(folder: Path) -> dict[str, str]:
        return _model(lead_out(base, number, way, folder / "in"), SHAPES[base])(folder)

    return place


def refused(count: int, seed: int) -> Iterator[Odd]:
    """Return all models that the runtime does not load, for commands that write a model."""
    found = [(case.name, case.proto) for kind in (stored_cases, node_cases) for case in kind()]
    found += [(f"case/{path.stem}", path.read_bytes()) for path in sorted(CASES.glob("*.onnx"))]
    found += [(fault.name, fault.data) for fault in {fault.data: fault for fault in every_fault()}.values()]
    for (name, data), bad in zip(found, _refused([data for _, data in found]), strict=True):
        if bad:
            yield Odd(name, _model(data, SHAPES.get(name.partition("-")[0])), MODELS)


def _refused(models: Sequence[bytes]) -> Iterator[bool]:
    """Yield whether the runtime refuses each model, or dies of it."""
    done = 0
    while done < len(models):
        answers, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_load, args=(models[done:], theirs))
        process.start()
        theirs.close()
        try:
            while done < len(models) and answers.poll(60):
                yield bool(answers.recv())
                done += 1
        except EOFError:
            pass
        if done < len(models):
            process.kill()
            yield True
            done += 1
        process.join()


def _load(models: Sequence[bytes], answers: Connection) -> None:
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    for model in models:
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception:
            answers.send(True)
        else:
            answers.send(False)


def data(count: int, seed: int) -> Iterator[Odd]:
    """Return faults of samples, for each command that takes some."""
    each = -(-count // len(valid_data()))
    for fault in data_faults(MODEL, valid_data(), each, seed):
        yield Odd(fault.name, _samples(fault.place), {name: OF_MODEL[name] for name in DATA_READERS})


def _samples(place_fault: Callable[[Path], list[str]]) -> Callable[[Path], dict[str, str]]:
    def place(folder: Path) -> dict[str, str]:
        given = place_fault(folder / "in")[2:]
        options = dict(zip(given[::2], given[1::2], strict=True))
        at = {key: str(path) for key, path in paths(folder).items()}
        source = options["--data"]
        for option in ("--labels", "--config"):
            source += f"\n{option}\n{options[option]}" if option in options else ""
        shutil.copy(MODEL, at["m"])  # commands write beside their model
        return {**at, "d": source}

    return place


def folders(count: int, seed: int, run: dict[str, bytes]) -> Iterator[Odd]:
    """Return faults of run folders, for each command that reads one."""
    for fault in run_faults(run, -(-count // 8), seed):
        yield Odd(fault.name, _run(fault.place), RUN_READERS)


def _run(place_fault: Callable[[Path], list[str]]) -> Callable[[Path], dict[str, str]]:
    def place(folder: Path) -> dict[str, str]:
        place_fault(folder / "in")
        return {**{key: str(path) for key, path in paths(folder).items()}, "m": str(MODEL)}

    return place


def lines(odd: Odd, names: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Return the name and the words of each command on something odd; options come with the samples, on lines."""
    return [(name, [w for word in words(text, names) for w in word.split("\n")]) for name, text in odd.commands.items()]
