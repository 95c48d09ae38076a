"""Faults of data and run folders: valid files, mutated by bytes and by structure, and the command that reads each."""

import base64
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 1 << 70, "", "\x1b[2J", "\ud800", "../../etc/passwd", "\0",
    [], {}, [[]], {"a": {}}, "x" * 10_000, ["x"] * 50, "ssh://-oProxyCommand=x", "evil.py:f", 3.5,
)  # fmt: skip
"""Values that stand where others should."""


@dataclass(frozen=True)
class Fault:
    """One mutated file: `place` writes it into a folder and returns the words of the command that reads it."""

    name: str
    place: Callable[[Path], list[str]]


def bytes_of(data: bytes, luck: random.Random) -> bytes:
    """Return bytes with a few changed, cut, doubled or put in."""
    found = bytearray(data)
    for _ in range(luck.choice((1, 1, 2, 8))):
        at = luck.randrange(len(found) + 1)
        kind = luck.randrange(5)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << luck.randrange(8)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            del found[at : at + luck.randrange(1, 40)]
        elif kind == 3:
            found[at:at] = bytes(luck.randrange(256) for _ in range(luck.randrange(1, 12)))
        else:
            found[at:at] = found[max(0, at - luck.randrange(1, 60)) : at]
    return bytes(found)


def json_of(text: str, luck: random.Random) -> str:
    """Return JSON in which a few values are odd, missing or twice there."""
    value = json.loads(text)
    for _ in range(luck.choice((1, 1, 1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = luck.choice(places)
        if luck.random() < 0.2:
            del holder[key]
        elif isinstance(holder, list) and luck.random() < 0.2:
            holder.append(deepcopy(holder[key]))
        else:
            holder[key] = deepcopy(luck.choice(ODD))
    return json.dumps(value)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def npz_of(luck: random.Random) -> bytes:
    """Return an archive of arrays of odd types, shapes and names."""
    kinds = ("f4", "f8", "i8", "u1", "?", "c8", "U3", "M8[s]", "V4", "f2", "S2", ">f4", "m8[s]", "i1,f4")
    shapes = ((6, 64), (6, 8, 8), (0, 64), (64,), (), (6, 1, 64), (6, 0), (1, 1, 1, 6, 64), (6, 63), (3, 64))
    names = ("x", "pixels", "label", "y", "labels", "arr_0", "", "../x", "a/b", "x\x1b[2J", "f")
    arrays = {}
    for _ in range(luck.randrange(0, 4)):
        array = np.zeros(luck.choice(shapes), luck.choice(kinds))
        if array.dtype.kind == "f" and array.size and luck.random() < 0.3:
            array.flat[0] = luck.choice((np.nan, np.inf, -np.inf))
        arrays[luck.choice(names)] = array
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue() if luck.random() < 0.7 else bytes_of(buffer.getvalue(), luck)


def data_faults(model: Path, valid: dict[str, bytes], count: int, seed: int) -> Iterator[Fault]:
    """Return `count` faults of every file of samples and labels in `valid`, which are named as their readers want."""
    for name, data in valid.items():
        for number in range(count):
            luck = random.Random(f"{seed} {name} {number}")
            if name.endswith(".npz") and number % 2:
                made = npz_of(luck)
            elif name.endswith(".json") and number % 2:
                made = json_of(data.decode(), luck).encode()
            else:
                made = bytes_of(data, luck)
            yield Fault(f"{name} {number}", _reader(model, name, made))


def _reader(model: Path, name: str, data: bytes) -> Callable[[Path], list[str]]:
    def place(folder: Path) -> list[str]:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if name == "config.toml":
            return ["evaluate", str(model), "--config", str(file), "--data", "digits", "--limit", "4"]
        if name.startswith("labels"):
            return ["evaluate", str(model), "--data", "random:3", "--labels", str(file)]
        return ["evaluate", str(model), "--data", str(file.parent if file.parent != folder else file)]

    return place


READ_BY = (
    *(("run.json", command) for command in ("report", "card", "resume", "verify", "audit")),
    *((file, "verify") for file in ("golden.npz", "MANIFEST.sha256", "best.onnx")),
    ("result.json", "device-result"),
)
"""Files of a run folder, and of a device, with the commands that read them."""


def run_faults(run: dict[str, bytes], count: int, seed: int) -> Iterator[Fault]:
    """Return faults of a run folder, `count` for each of its files and commands."""
    for file, command in READ_BY:
        for number in range(count):
            luck = random.Random(f"{seed} {file} {command} {number}")
            if file.endswith("json") and number % 4:
                made = json_of(run[file].decode(), luck).encode()
            elif file.endswith("npz") and number % 2:
                made = npz_of(luck)
            else:
                made = bytes_of(run[file], luck)
            yield Fault(f"{file} {command} {number}", _run(run, file, made, command))


def _run(run: dict[str, bytes], file: str, made: bytes, command: str) -> Callable[[Path], list[str]]:
    def place(folder: Path) -> list[str]:
        files = {**run, file: made}
        if file != "MANIFEST.sha256":  # so that what is in the file is read, and not only its checksum
            names = ("best.onnx", "run.json", "golden.npz")
            lines = [f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in names if n in files]
            files["MANIFEST.sha256"] = "".join(lines).encode()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return [command, str(folder / file if command == "device-result" else folder)]

    return place


def journal_faults(valid: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Return mutated journals."""
    for number in range(count):
        luck = random.Random(f"{seed} journal {number}")
        if number % 2:
            lines = valid.decode().splitlines()
            at = luck.randrange(len(lines))
            lines[at] = json_of(lines[at], luck)
            yield f"journal {number}", ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
        else:
            yield f"journal {number}", bytes_of(valid, luck)


def valid_data() -> dict[str, bytes]:
    """Return a small valid file of every kind that `evaluate` reads for a model of 64 features and 10 classes."""
    rows = np.arange(6 * 64, dtype=np.float32).reshape(6, 64) / 400
    labels = np.arange(6) % 3
    archive, array = io.BytesIO(), io.BytesIO()
    np.savez(archive, x=rows, y=labels)
    np.save(array, rows)
    table = "\n".join(",".join([f"{v:.3f}" for v in row] + [str(y)]) for row, y in zip(rows, labels, strict=True))
    head = ",".join([f"f{i}" for i in range(64)] + ["label"])
    lines = [json.dumps({"X": row.tolist(), "label": int(y)}) for row, y in zip(rows, labels, strict=True)]
    return {
        "a.npz": archive.getvalue(),
        "a.npy": array.getvalue(),
        "folder/a.npz": archive.getvalue(),
        "a.csv": f"{head}\n{table}\n".encode(),
        "a.tsv": f"{head}\n{table}\n".replace(",", "\t").encode(),
        "a.jsonl": ("\n".join(lines) + "\n").encode(),
        "labels.txt": b"0\n1\n2\n",
        "labels.csv": b"label\n0\n1\n2\n",
        "labels.json": json.dumps(COCO).encode(),
        "test/input_0.pb": base64.b64decode("CAEIQBABSoAC") + bytes(256),
        "config.toml": b'threads = 1\nlimit = 3\n[evaluate]\nthreshold = 0.5\nmetric = "top1"\n',
    }


COCO = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 8} for n in range(3)],
    "annotations": [{"image_id": n, "category_id": 1, "bbox": [1, 1, 3, 3]} for n in range(3)],
    "categories": [{"id": 1, "name": "x"}],
}
