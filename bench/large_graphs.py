"""Time per node of simplify and quantize on chains of thousands of layers.

python bench/large_graphs.py --nodes 5000 10000 20000 --out bench/results/large_graphs.json

Each layer is a product, its Relu, a Gemm, and an addition of what went in, with weights of 8 x 8: the time is that of
the work per node, not of the weights.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxopt.catalog import parse
from onnxopt.measure.runtime.environment import environment
from onnxopt.model_file import from_proto, signature_of
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.target import target_of

PASSES = ("simplify", "quantize-dynamic", "quantize-static", "quantize-static{form=qoperator}")


def chain(layers: int) -> ir.Model:
    """Return a chain of layers of four nodes."""
    luck, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    for i in range(layers):
        for name, shape in (("a", (8, 8)), ("b", (8, 8)), ("c", (8,))):
            weights.append(numpy_helper.from_array(luck.standard_normal(shape).astype(np.float32) / 8, f"{name}{i}"))
        out = "y" if i == layers - 1 else f"x{i}"
        nodes += [
            helper.make_node("MatMul", [x, f"a{i}"], [f"m{i}"], f"product_{i}"),
            helper.make_node("Relu", [f"m{i}"], [f"r{i}"], f"relu_{i}"),
            helper.make_node("Gemm", [f"r{i}", f"b{i}", f"c{i}"], [f"g{i}"], f"gemm_{i}", transB=1),
            helper.make_node("Add", [x, f"g{i}"], [out], f"add_{i}"),
        ]
        x = out
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def timed(spec: str, layers: int) -> tuple[float, int]:
    """Return the processor time of a pass in seconds, and its edits."""
    model = chain(layers)
    numbers = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    context = Context(target_of("x86-vnni"), open_samples({"x": numbers}, signature_of(model)))
    since = time.process_time()
    steps = Pipeline(parse(spec)).run(model, context).steps
    return time.process_time() - since, len(steps[0].edits)


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[5000, 10_000, 20_000])
    parser.add_argument("--passes", nargs="+", default=PASSES)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for spec in given.passes:
        timed(spec, 2)  # imports
    for count in given.nodes:
        for spec in given.passes:
            cpu_s, edits = timed(spec, count // 4)
            rows.append({"nodes": count, "pass": spec, "cpu_s": round(cpu_s, 2), "edits": edits})
            print(f"{count} nodes, {spec}: {1e3 * cpu_s / count:.2f} ms per node, {edits} edits", flush=True)
            if given.out:
                given.out.write_text(json.dumps({"rows": rows, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
