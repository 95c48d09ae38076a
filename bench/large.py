"""Passes on a model of 2.2 GB beside ONNX Runtime's own tools: time, and memory at its peak.

    python bench/large.py [--folder FOLDER] [--layers 16] [--only ours-rtn4 ort-rtn4]

Makes a model of 16 two-layer blocks and a table of 8000 rows, with weights from a seed in an external file (6 GB of
disk are needed), and has each tool work on it in a separate process. `cpu` is processor time: on a busy machine it
says more than the time by the clock. `peak` is the most memory that was resident in that process or in one that it
started; `private` is its most memory that is no page of a file. `sqnr` compares the outputs on 64 rows with those of
the float model. `optimize` searches on random data for four minutes. `full-disk` writes 1.1 GB where 0.8 GB fit, and
looks whether the older result is whole. Saves the table as JSON under `bench/results/`. Exit code 1 where a job failed,
or a pass takes more than 1.3 times the processor time of the runtime's tool for the same, or more than half of its
memory.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

RESULTS = Path(__file__).parent / "results"
WIDTH, INNER, ROWS = 2048, 8192, 8000
TESTED = 64
"""Rows that outputs are compared on."""
FASTEST, LEAST = 1.3, 0.5
"""Of the runtime's time and of its memory."""
SEARCH_S, ROOM_BYTES = 240.0, 800_000_000
"""Time of the search, and the largest file on the disk that is full."""


def make(path: Path, layers: int) -> None:
    """Write the model and its weights, one at a time."""
    rng, nodes, weights = np.random.default_rng(0), list[onnx.NodeProto](), list[onnx.TensorProto]()
    with path.with_name("model.onnx.weights").open("wb") as file:

        def weight(name: str, *shape: int) -> str:
            array = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0]))
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=1)
            for key, value in (("location", Path(file.name).name), ("offset", file.tell()), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            file.write(array)
            weights.append(tensor)
            return name

        nodes.append(helper.make_node("Gather", [weight("table", ROWS, WIDTH), "ids"], ["x_0"], "lookup", axis=0))
        for i in range(layers):
            up, down = weight(f"up_{i}", WIDTH, INNER), weight(f"down_{i}", INNER, WIDTH)
            nodes += [
                helper.make_node("MatMul", [f"x_{i}", up], [f"u_{i}"], f"up_{i}"),
                helper.make_node("Relu", [f"u_{i}"], [f"r_{i}"], f"relu_{i}"),
                helper.make_node("MatMul", [f"r_{i}", down], [f"d_{i}"], f"down_{i}"),
                helper.make_node("Add", [f"x_{i}", f"d_{i}"], [f"x_{i + 1}"], f"add_{i}"),
            ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])
    result = helper.make_tensor_value_info(f"x_{layers}", TensorProto.FLOAT, ["rows", WIDTH])
    graph = helper.make_graph(nodes, "large", [ids], [result], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(proto.SerializeToString())


def _apply(passes: str) -> Callable[[Path, Path], None]:
    def job(model: Path, out: Path) -> None:
        from onnxopt.tasks.apply import apply

        if not apply(model, passes, out=out).optimized.steps[-1].edits:
            raise SystemExit(f"{passes} changed nothing")

    return job


def _check(model: Path, out: Path) -> None:
    from onnxopt.tasks.check import check

    if not check(model).passed:
        raise SystemExit("the model is not passed")


def _inspect(model: Path, out: Path) -> None:
    from onnxopt.tasks.inspect import inspect

    inspect(model)


def _ort_bits(bits: int) -> Callable[[Path, Path], None]:
    def job(model: Path, out: Path) -> None:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        made = MatMulNBitsQuantizer(onnx.load(model), bits=bits, block_size=32, is_symmetric=False, accuracy_level=4)
        made.process()
        made.model.save_model_to_file(str(out), use_external_data_format=True)

    return job


def _ort_dynamic(model: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, out, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=True)


def _optimize(model: Path, out: Path) -> Mapping[str, Any]:
    """Search on random data; latency and fidelity are measured, but say nothing of accuracy."""
    from onnxopt import optimize

    made = optimize(model, "random", out=out.parent / "run", time_limit_s=SEARCH_S)
    timed = [trial for trial in made.record.trials if trial.latency is not None]
    if not timed:
        raise SystemExit("no candidate was measured")
    found = {
        trial.name: {
            "verdict": trial.verdict,
            "size_bytes": trial.size_bytes,
            "speedup": trial.latency.speedup and trial.latency.speedup.model_dump(),
        }
        for trial in timed
        if trial.latency is not None
    }
    return {"timed": found, "winner": made.record.winner, "load": os.getloadavg()[0]}


def _full_disk(model: Path, out: Path) -> None:
    """Write 1.1 GB over an older result where the disk ends at a part of it (a limit on the size of files)."""
    from onnxopt.errors import FileError
    from onnxopt.tasks.apply import apply

    older = {out: b"older model", out.with_name(f"{out.name}.data"): b"older weights"}
    for path, content in older.items():
        path.write_bytes(content)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, ROOM_BYTES))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        apply(model, "store-float16", out=out, overwrite=True)
    except FileError as error:
        print(error)
    else:
        raise SystemExit("more was written than there was room")
    left = {path: path.read_bytes() for path in out.parent.iterdir()}
    if left != older:
        raise SystemExit(f"the older result is not as it was: {sorted(path.name for path in left)}")


Job = Callable[[Path, Path], Mapping[str, Any] | None]
"""Works on a model and writes another; may return figures of its own."""
JOBS: Mapping[str, Job] = MappingProxyType(
    {
        "check": _check,
        "inspect": _inspect,
        "simplify": _apply("simplify"),
        "store-float16": _apply("store-float16"),
        "ours-rtn8": _apply("quantize-weights{bits=8,method=rtn}"),
        "ours-rtn4": _apply("quantize-weights{bits=4,method=rtn}"),
        "ours-dynamic": _apply("quantize-dynamic"),
        "optimize": _optimize,
        "full-disk": _full_disk,
        "ort-rtn8": _ort_bits(8),
        "ort-rtn4": _ort_bits(4),
        "ort-dynamic": _ort_dynamic,
    }
)


UNLIKE = ("full-disk",)
"""Jobs that write no model to compare."""


def _status(key: str) -> int:
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def measured(job: Job, model: Path, out: Path) -> dict[str, Any]:
    """Do the job here; return its time, this process's memory, and what the job returns."""
    done, private = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.01):
            private[0] = max(private[0], _status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, before = time.perf_counter(), time.process_time()
    try:
        found = job(model, out)
    finally:
        seconds, cpu = time.perf_counter() - start, time.process_time() - before
        done.set()
        watcher.join()
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": max(_status("VmHWM"), children),
        "private_bytes": private[0],
        **(found or {}),
    }


def outputs_of(path: Path) -> np.ndarray:
    from onnxopt.measure.runtime.session import MAPPED, Session

    ids = np.arange(TESTED, dtype=np.int64) * (ROWS // TESTED)
    return np.asarray(Session(path, MAPPED).run({"ids": ids})[0], np.float64)


def row_of(name: str, model: Path, folder: Path, expected: np.ndarray | None) -> dict[str, Any]:
    out = folder / name / "out.onnx"
    out.parent.mkdir()
    command = [sys.executable, __file__, "--job", name, str(model), str(out)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        shutil.rmtree(out.parent)
        return {"job": name, "failed": (ended.stderr.splitlines() or ["without a word"])[-1]}
    row: dict[str, Any] = {"job": name, **json.loads(ended.stdout.splitlines()[-1])}
    if name not in UNLIKE and out.exists() and expected is not None:
        noise = np.square(outputs_of(out) - expected).sum()
        row["sqnr_db"] = round(float(10 * np.log10(np.square(expected).sum() / noise)), 1) if noise else None
    row["out_bytes"] = sum(file.stat().st_size for file in out.parent.iterdir() if file.is_file())
    shutil.rmtree(out.parent)
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        name, model, out = options.job
        print(json.dumps(measured(JOBS[name], Path(model), Path(out))))
        return 0
    from onnxopt.measure.runtime.environment import environment

    with tempfile.TemporaryDirectory(prefix="onnxopt-large-", dir=options.folder) as text:
        folder = Path(text)
        model = folder / "model.onnx"
        make(model, options.layers)
        size = sum(file.stat().st_size for file in folder.iterdir())
        expected, rows = outputs_of(model), list[dict[str, Any]]()
        for name in options.only:
            rows.append(row_of(name, model, folder, expected))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    result = {"environment": environment(), "model_bytes": size, "layers": options.layers, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    path = options.out or RESULTS / f"{date.today()}-large.json"
    path.write_text(json.dumps(result, indent=1, default=str) + "\n")
    return 1 if _worse(rows) or any("failed" in row for row in rows) else 0


def _worse(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the passes that are slower than the runtime's tool by more than is allowed, or take more memory."""
    known = {row["job"]: row for row in rows}
    pairs = [(name, f"ort-{name.removeprefix('ours-')}") for name in known if name.startswith("ours-")]
    both = [(known[ours], known[theirs], ours) for ours, theirs in pairs if theirs in known]
    return [
        name
        for ours, theirs, name in both
        if "failed" not in {**ours, **theirs}
        if ours["cpu_seconds"] > FASTEST * theirs["cpu_seconds"] or ours["peak_bytes"] > LEAST * theirs["peak_bytes"]
    ]


if __name__ == "__main__":
    raise SystemExit(main())
