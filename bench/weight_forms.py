"""Forms of a product with stored weights, with and without Relu or Clip behind it: kernel, and speed against float.

    python bench/weight_forms.py [--width 1024] [--rounds 40]

All forms of a product of WIDTH x WIDTH are timed by turns in one process with one thread, on 1 and on 16 rows. Prints
one table and saves it as JSON under `bench/results/`.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session, optimized_model
from onnxopt.quantization.rounding.blockwise import round_to_nearest

RESULTS = Path(__file__).parent / "results"
BLOCK = 32
BEHIND = ("nothing", "Relu", "Max", "Clip", "Min(Max)", "Add Relu", "Add Max")
FORMS = (
    "float",
    "MatMulNBits 8",
    "MatMulNBits 4",
    "MatMulNBits 4, blocks of 128",
    "MatMulNBits 2",
    "MatMulNBits 2, blocks of 64",
    "MatMulNBits 2, blocks of 128",
    "MatMulNBits 4, float zero points",
    "blocks 8",
    "blocks 4",
    "channels 8",
)


class Graph:
    def __init__(self) -> None:
        self.nodes, self.weights = list[onnx.NodeProto](), list[onnx.TensorProto]()

    def const(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, domain=domain, **attributes))
        return name

    def model(self, last: str, width: int) -> bytes:
        self.nodes.append(helper.make_node("Neg", [last], ["y"], "end"))
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", width]) for n in "xy")
        graph = helper.make_graph(self.nodes, "form", [x], [y], self.weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def product(graph: Graph, form: str, weight: np.ndarray) -> str:
    width = len(weight)
    if form == "float":
        return graph.node("MatMul", "x", graph.const(weight))
    if form == "channels 8":
        scale = (np.abs(weight).max(0) / 127).astype(np.float32)
        integers = np.rint(weight / scale).astype(np.int8)
        floats = graph.node("DequantizeLinear", graph.const(integers), graph.const(scale), axis=1)
        return graph.node("MatMul", "x", floats)
    bits = int(re.findall(r"\d+", form)[0])
    block = int(form.rsplit(" ", 1)[1]) if "blocks of" in form else BLOCK
    blocks = round_to_nearest(weight.T, bits, block)
    if form.startswith("blocks"):
        kind = ml_dtypes.uint4 if bits == 4 else np.uint8
        integers = blocks.integers.reshape(width, -1)[:, :width].T.astype(kind)
        parts = (integers, blocks.scale.T, blocks.zero_point.T.astype(kind))
        floats = graph.node("DequantizeLinear", *map(graph.const, parts), axis=0, block_size=BLOCK)
        return graph.node("MatMul", "x", floats)
    arrays = blocks.arrays()
    if form.endswith("float zero points"):
        arrays["zero"] = blocks.zero_point.astype(np.float32).reshape(-1)
    inputs = [graph.const(arrays[name]) for name in ("q", "scale", "zero")]
    attributes = {"K": width, "N": width, "bits": bits, "block_size": block, "accuracy_level": 4}
    return graph.node("MatMulNBits", "x", *inputs, domain="com.microsoft", **attributes)


def behind(graph: Graph, x: str, what: str, width: int) -> str:
    zero, six = (np.array(number, np.float32) for number in (0, 6))
    if what.startswith("Add"):
        x = graph.node("Add", x, graph.const(np.ones(width, np.float32)))
    op = what.removeprefix("Add ")
    if op == "Relu":
        return graph.node("Relu", x)
    if op == "Max":
        return graph.node("Max", x, graph.const(zero))
    if op == "Clip":
        return graph.node("Clip", x, graph.const(zero), graph.const(six))
    if op == "Min(Max)":
        return graph.node("Min", graph.node("Max", x, graph.const(zero)), graph.const(six))
    return x


def cases(width: int) -> Iterator[tuple[str, str, bytes]]:
    weight = np.random.default_rng(0).standard_normal((width, width), np.float32)
    for form in FORMS:
        for what in BEHIND:
            graph = Graph()
            yield form, what, graph.model(behind(graph, product(graph, form, weight), what, width), width)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(arguments)
    made = {(form, what): model for form, what, model in cases(options.width)}
    sessions = {key: Session(model, Runtime(threads=1)) for key, model in made.items()}
    kernels = {key: "+".join(n.op_type for n in optimized_model(m, Runtime()).graph) for key, m in made.items()}
    rows = [{"form": f, "behind": b, "kernels": kernels[f, b]} for f, b in made]
    for count in (1, 16):
        x = {"x": np.random.default_rng(1).standard_normal((count, options.width), np.float32)}
        times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
        for _ in range(options.rounds):
            for key, session in sessions.items():
                session.run(x)
                start = time.thread_time_ns()
                session.run(x)
                times[key].append((time.thread_time_ns() - start) / 1e6)
        for row in rows:
            key = str(row["form"]), str(row["behind"])
            mine, floats = float(np.median(times[key])), float(np.median(times["float", key[1]]))
            row |= {f"ms_{count}": round(mine, 3), f"speed_up_{count}": round(floats / mine, 2)}
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    result = {"environment": environment(), "width": options.width, "block": BLOCK, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{date.today()}-weight-forms.json"
    path.write_text(json.dumps(result, indent=1, default=str) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
