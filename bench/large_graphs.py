"""Time per node of simplify and quantize on chains of thousands of layers.

python bench/large_graphs.py --nodes 5000 10000 20000 --out bench/results/large_graphs.json

Each layer is a product, its Relu or Sigmoid, a Gemm, and an addition, with weights of 8 x 8: the time is that of the
work per node, not of the weights. In a `growing` chain the addition joins what went in, so that ranges of some sums
differ more than 16 times: static quantization then builds and loads the model twice, with and without INT8 there. In a
`bounded` one it joins the Sigmoid. Loads are those of ONNX Runtime, whose time is within that of the pass.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onnxopt.catalog import parse
from onnxopt.measure.runtime.environment import environment
from onnxopt.model_file import from_proto, signature_of
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.target import target_of

LISTED = 10
"""Most loads that are listed one by one; of more their sum is."""
PASSES = ("simplify", "quantize-dynamic", "quantize-static", "quantize-static{form=qoperator}")


def chain(layers: int, *, growing: bool = True) -> ir.Model:
    """Return a chain of layers of four nodes."""
    luck, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    scale, activation = (8, "Relu") if growing else (3, "Sigmoid")
    for i in range(layers):
        for name, shape in (("a", (8, 8)), ("b", (8, 8)), ("c", (8,))):
            weights.append(
                numpy_helper.from_array(luck.standard_normal(shape).astype(np.float32) / scale, f"{name}{i}")
            )
        out = "y" if i == layers - 1 else f"x{i}"
        nodes += [
            helper.make_node("MatMul", [x, f"a{i}"], [f"m{i}"], f"product_{i}"),
            helper.make_node(activation, [f"m{i}"], [f"r{i}"], f"activation_{i}"),
            helper.make_node("Gemm", [f"r{i}", f"b{i}", f"c{i}"], [f"g{i}"], f"gemm_{i}", transB=1),
            helper.make_node("Add", [x if growing else f"r{i}", f"g{i}"], [out], f"add_{i}"),
        ]
        x = out
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


class Loads(onnxruntime.InferenceSession):  # type: ignore[misc]  # the runtime has no types
    """A session of the runtime that notes the processor time of its load in seconds."""

    cpu_s: ClassVar[list[float]] = []

    def __init__(self, *given: Any, **options: Any) -> None:
        since = time.process_time()
        super().__init__(*given, **options)
        self.cpu_s.append(time.process_time() - since)


def timed(spec: str, layers: int, *, growing: bool = True) -> dict[str, Any]:
    """Return the processor time of a pass and of the loads in it, and its edits."""
    model = chain(layers, growing=growing)
    numbers = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    context = Context(target_of("x86-vnni"), open_samples({"x": numbers}, signature_of(model)))
    Loads.cpu_s.clear()
    since = time.process_time()
    steps = Pipeline(parse(spec)).run(model, context).steps
    cpu_s = time.process_time() - since
    # Corrections load a part of the model for each layer.
    loads = [round(one, 2) for one in (Loads.cpu_s if len(Loads.cpu_s) <= LISTED else [sum(Loads.cpu_s)])]
    return {"cpu_s": round(cpu_s, 2), "edits": len(steps[0].edits), "loads_cpu_s": loads}


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[5000, 10_000, 20_000])
    parser.add_argument("--passes", nargs="+", default=PASSES)
    parser.add_argument("--chains", nargs="+", choices=("growing", "bounded"), default=("bounded", "growing"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    onnxruntime.InferenceSession = Loads
    rows = []
    for spec in given.passes:
        timed(spec, 2)  # imports
    for count, kind, spec in itertools.product(given.nodes, given.chains, given.passes):
        found = timed(spec, count // 4, growing=kind == "growing")
        rows.append({"nodes": count, "chain": kind, "pass": spec, **found})
        ms, loading = (1e3 * one / count for one in (found["cpu_s"], sum(found["loads_cpu_s"])))
        print(f"{count} nodes, {kind}, {spec}: {ms:.2f} ms per node, {loading:.2f} of them loads", flush=True)
        if given.out:
            given.out.write_text(json.dumps({"rows": rows, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
