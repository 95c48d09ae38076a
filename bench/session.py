"""Settings and form of sessions: the figure of each goal with one thread, beside the default settings.

python bench/session.py [MODEL ...]

Without models: those of this project, and a random multilayer perceptron of 67 MB.
"""

import argparse
import datetime
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnxopt
from onnxopt.measure.runtime.environment import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
GOALS = ("cold-start", "memory")
WIDTH, LAYERS = 2048, 4


def perceptron(path: Path) -> None:
    """Write layers of random weights, for which load and memory are the same as of trained ones."""
    rng, nodes, weights, current = np.random.default_rng(0), [], [], "x"
    for layer in range(LAYERS):
        weight = rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [current, f"w{layer}"], [f"product{layer}"]))
        current = "y" if layer == LAYERS - 1 else f"x{layer}"
        nodes.append(helper.make_node("Relu", [f"product{layer}"], [current]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in "xy"]
    graph = helper.make_graph(nodes, "perceptron", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def row(path: Path, goal: str, folder: Path) -> dict[str, Any]:
    """Tune a copy of a model for a goal, and return what was chosen and what it brings."""
    place = folder / f"{path.stem}-{goal}"
    place.mkdir()
    done = onnxopt.tune_session(shutil.copy(path, place), goal=goal, threads=1, seconds=2.0)  # type: ignore[arg-type]
    return {
        "model": path.name,
        "size_bytes": path.stat().st_size,
        "goal": goal,
        "form": done.form,
        "settings": done.settings.model_dump(mode="json"),
        "gain": None if done.gain is None else done.gain.model_dump(mode="json"),
        "latency": None if done.content.latency is None else done.content.latency.model_dump(mode="json"),
        "change": done.change,
        "reason": done.reason,
    }


def line(one: dict[str, Any]) -> str:
    """Return a row of the table."""
    gain, run = one["gain"], one["latency"]
    better = "default kept" if gain is None else f"{gain['ratio']:.2f}x [{gain['low']:.2f}, {gain['high']:.2f}]"
    beside = "-" if run is None else "unsure" if run["ratio"] is None else f"{run['ratio']:.2f}x"
    entries = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in one["settings"]["entries"].items()) or "-"
    return f"| {one['model']} | {one['goal']} | {one['form']} | {entries} | {better} | {beside} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as name:
        folder = Path(name)
        large = folder / "perceptron.onnx"
        perceptron(large)
        own = [ROOT / "models" / f"digits_{kind}.onnx" for kind in ("resnet", "dscnn", "gru")]
        rows = []
        print("| model | goal | form | entries | better | speed of a run |\n|---|---|---|---|--:|--:|")
        for path in options.models or [*own, large]:
            for goal in GOALS:
                rows.append(row(path, goal, folder))
                print(line(rows[-1]), flush=True)
    result = RESULTS / f"{datetime.date.today().isoformat()}-session.json"
    result.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
