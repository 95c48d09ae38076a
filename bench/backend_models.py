"""Run all backend test models of the onnx package through every exact pass, beside ONNX Runtime before and after.

python bench/backend_models.py --out bench/results/backend-models.json

A model counts where ONNX Runtime runs it at opset 7 or newer and gives the same answer twice. Each pass must then take
it, and what the pass made must give the same outputs on the model's own test data. A few dozen models share a separate
process; one that kills its process is counted as a crash.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from onnxopt import __version__, model_file
from onnxopt.catalog import available_passes
from onnxopt.errors import OnnxoptError
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.model_file.load import MIN_OPSET
from onnxopt.pipeline import Context, Effect, Need, Pass, Pipeline
from onnxopt.samples import Samples, open_samples
from onnxopt.target import detect

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
EACH = 40
"""Models of one process."""


@dataclass(frozen=True)
class Case:
    """A model, and inputs for it by name."""

    name: str
    proto: bytes
    feeds: dict[str, Any]


def node_cases() -> Iterator[Case]:
    """Return the models of one operator, which the onnx package makes when they are needed."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = collect_testcases(None)
    for case in made:
        if case.model is not None and case.data_sets:
            names = [value.name for value in case.model.graph.input]
            given = dict(zip(names, map(_value, case.data_sets[0][0]), strict=False))
            yield Case(f"node/{case.name}", case.model.SerializeToString(), given)


def _value(given: Any) -> Any:
    if isinstance(given, onnx.TensorProto):
        return numpy_helper.to_array(given)
    return given if isinstance(given, list) or given is None else np.asarray(given)


def stored_cases() -> Iterator[Case]:
    """Return the models that lie in folders of the onnx package, with their test data."""
    for path in sorted(DATA.glob("*/*/model.onnx")):
        model = onnx.load(path)
        files = sorted((path.parent / "test_data_set_0").glob("input_*.pb"), key=lambda f: int(f.stem[6:]))
        given = {v.name: _read(f, v.type) for v, f in zip(model.graph.input, files, strict=False)}
        yield Case(f"{path.parts[-3]}/{path.parts[-2]}", model.SerializeToString(), given)
    for path in sorted((DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        weights = {w.name for w in model.graph.initializer}
        (x,) = [v for v in model.graph.input if v.name not in weights]
        shape = [d.dim_value or 1 for d in x.type.tensor_type.shape.dim]
        noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        yield Case(f"light/{path.stem}", model.SerializeToString(), {x.name: noise})


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def outputs(model: bytes, feeds: dict[str, Any]) -> list[Any]:
    """Return the outputs that ONNX Runtime gives."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {v.name for v in session.get_inputs()}
    return list(session.run(None, {name: value for name, value in feeds.items() if name in given}))


def same(one: Any, other: Any) -> bool:
    """Return whether two outputs are equal up to the order of float arithmetic."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if one is None or isinstance(one, str):
        return bool(one == other)
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind not in "fc" or one.dtype.itemsize < 4:
        return bool(np.array_equal(one, other) or (one.dtype == np.float16 and np.allclose(one, other, 4e-3, 1e-3)))
    return bool(np.allclose(one, other, 1e-4, 1e-6, equal_nan=True))


def runs_today(case: Case) -> list[Any] | str:
    """Return the outputs of a model that counts, or why it does not."""
    proto = onnx.ModelProto.FromString(case.proto)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is not None and opset < MIN_OPSET:
        return "older than opset 7"
    try:
        before = outputs(case.proto, case.feeds)
        return before if same(before, outputs(case.proto, case.feeds)) else "draws random numbers"
    except Exception:
        return "ONNX Runtime does not run it"


def ended(case: Case, before: list[Any], kind: type[Pass], place: Path) -> str:
    """Run one pass on a model and return how that ended."""
    path = place / "model.onnx"
    path.write_bytes(case.proto)
    try:
        model = model_file.load(path)
        samples = _samples(case, model) if Need.CALIBRATION in kind.needs else None
        if Need.CALIBRATION in kind.needs and samples is None:
            return "has no batches to calibrate on"
        done = Pipeline((kind(),)).run(model, Context(detect(), samples))
    except OnnxoptError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"crashed: {type(error).__name__}: {error}"
    if not done.steps[0].edits:
        return "left as it was"
    try:
        after = outputs(to_bytes(done.model), case.feeds)
    except Exception as error:
        return f"does not run: {str(error)[:300]}"
    return "changed, same outputs" if same(before, after) else "other outputs"


def _samples(case: Case, model: Any) -> Samples | None:
    try:
        return open_samples(case.feeds, signature_of(model))
    except OnnxoptError:
        return None


def work(cases: list[Case], passes: dict[str, type[Pass]], answers: Connection) -> None:
    """Send how every pass ends on every model."""
    onnxruntime.set_default_logger_severity(4)
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            found = runs_today(case)
            if isinstance(found, str):
                answers.send((found, {}))
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ends = {name_: ended(case, found, kind, Path(name)) for name_, kind in passes.items()}
            answers.send(("counts", ends))


def measured(
    cases: list[Case], passes: dict[str, type[Pass]], until: float
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield name, whether the model counts, and endings by pass; a crash of the process has its own."""
    waiting = cases
    while waiting and time.monotonic() < until:
        part, waiting = waiting[:EACH], waiting[EACH:]
        answers, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=work, args=(part, passes, theirs))
        process.start()
        theirs.close()
        done = 0
        try:
            while done < len(part) and answers.poll(600):
                yield part[done].name, *answers.recv()
                done += 1
        except EOFError:
            pass
        if done < len(part):
            process.kill()
            yield part[done].name, "counts", {"process": "crashed: it died or hung"}
            waiting = part[done + 1 :] + waiting
        process.join()


WRONG = ("refused", "crashed", "does not run", "other outputs")


def main() -> None:
    """Run, print what is wrong, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="models whose name begins so")
    parser.add_argument("--minutes", type=float, default=600, help="end after this time with what was done")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    begun = time.monotonic()
    passes = {name: kind for name, kind in available_passes().items() if kind.effect is Effect.EXACT}
    kinds = [stored_cases, node_cases] if not given.only else [node_cases if given.only[:4] == "node" else stored_cases]
    cases = [case for kind in kinds for case in kind() if case.name.startswith(given.only)]
    counted, ends, faults = Counter[str](), {name: Counter[str]() for name in passes}, list[str]()
    for name, counts, endings in measured(cases, passes, begun + 60 * given.minutes):
        counted[counts] += 1
        for of, ending in endings.items():
            if ending.startswith(WRONG):
                faults.append(f"{name} {of}: {ending[:300]}")
                print(faults[-1], flush=True)
            ends.setdefault(of, Counter())[ending.partition(":")[0]] += 1
    result = {
        "models": sum(counted.values()),
        "of": len(cases),
        "counted": counted["counts"],
        "left_out": {why: n for why, n in sorted(counted.items()) if why != "counts"},
        "faults": faults,
        "endings": {name: dict(sorted(found.items())) for name, found in ends.items()},
        "machine": platform.processor() or platform.machine(),
        "versions": {
            "onnxopt": __version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
    }
    summary = f"{result['models']} of {len(cases)} models, {result['counted']} count, {len(faults)} faults"
    print(f"{summary}, {time.monotonic() - begun:.0f} s")
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
