"""Durations of `onnxopt optimize --time-limit`, on large models with random weights and on others.

    python bench/time_limit.py [MODEL.onnx ...] [--limit 60] [--only resnet50] [--prune]

Makes a ResNet-50 and a BERT-base with random weights, draws 64 random samples for each model, runs the command, and
prints the time of the whole process over the limit; at most 1.15 is promised.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SAMPLES = 64
PROMISED = 1.15


class Net:
    """An ONNX graph that grows node by node."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, scale: float) -> str:
        """Return the name of a new random weight."""
        return self.constant((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        """Return the name of a new constant."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Return the output of a new node."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def saved(self, path: Path, given: onnx.ValueInfoProto, output: str, shape: Sequence[int | str]) -> Path:
        """Write the model."""
        returned = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
        self.nodes.append(helper.make_node("Identity", [output], ["logits"], name="last"))
        graph = helper.make_graph(self.nodes, path.stem, [given], [returned], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)
        return path


def resnet50(path: Path) -> Path:
    """Write a residual network of 50 layers for images of 224 pixels, 25 million weights."""
    net = Net()

    def conv(x: str, before: int, after: int, kernel: int, stride: int = 1, *, relu: bool = True) -> str:
        weight = net.weight(after, before, kernel, kernel, scale=(2 / (before * kernel**2)) ** 0.5)
        bias = net.weight(after, scale=0.1)
        y = net.add("Conv", x, weight, bias, strides=[stride] * 2, pads=[kernel // 2] * 4)
        return net.add("Relu", y) if relu else y

    x = net.add("MaxPool", conv("x", 3, 64, 7, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            y = conv(conv(conv(x, width, inner, 1), inner, inner, 3, stride), inner, 4 * inner, 1, relu=False)
            skip = conv(x, width, 4 * inner, 1, stride, relu=False) if block == 0 else x
            half = net.constant(np.float32(0.7))  # keeps the values of a net without normalization in range
            x = net.add("Relu", net.add("Mul", net.add("Add", y, skip), half))
            width = 4 * inner
    flat = net.add("Flatten", net.add("GlobalAveragePool", x))
    out = net.add("Gemm", flat, net.weight(width, 1000, scale=0.02), net.weight(1000, scale=0.01))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 224, 224])
    return net.saved(path, given, out, ["batch", 1000])


def bert_base(path: Path, length: int = 128, d: int = 768, heads: int = 12, layers: int = 12) -> Path:
    """Write an encoder of the size of BERT-base, 109 million weights, for sentences of 128 tokens."""
    net = Net()

    def linear(x: str, before: int, after: int) -> str:
        product = net.add("MatMul", x, net.weight(before, after, scale=before**-0.5))
        return net.add("Add", product, net.weight(after, scale=0.02))

    def norm(x: str) -> str:
        scale, bias = net.constant(np.ones(d, np.float32)), net.constant(np.zeros(d, np.float32))
        return net.add("LayerNormalization", x, scale, bias, axis=-1)

    split, joined = net.constant(np.array([0, length, heads, d // heads])), net.constant(np.array([0, length, d]))
    x = norm(
        net.add("Add", net.add("Gather", net.weight(30522, d, scale=1.0), "ids"), net.weight(length, d, scale=0.1))
    )
    for _ in range(layers):
        q, k, v = (net.add("Reshape", linear(x, d, d), split) for _ in range(3))
        q, v = (net.add("Transpose", one, perm=[0, 2, 1, 3]) for one in (q, v))
        scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 3, 1]))
        weighed = net.add("Softmax", net.add("Div", scores, net.constant(np.float32((d // heads) ** 0.5))), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", weighed, v), perm=[0, 2, 1, 3])
        x = norm(net.add("Add", x, linear(net.add("Reshape", mixed, joined), d, d)))
        wide = linear(x, d, 4 * d)
        erf = net.add("Erf", net.add("Mul", wide, net.constant(np.float32(0.5**0.5))))
        gelu = net.add(
            "Mul", net.add("Mul", wide, net.add("Add", erf, net.constant(np.float32(1)))), net.constant(np.float32(0.5))
        )
        x = norm(net.add("Add", x, linear(gelu, 4 * d, d)))
    pooled = net.add("ReduceMean", x, axes=[1], keepdims=0)
    given = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", length])
    return net.saved(path, given, linear(pooled, d, 2), ["batch", 2])


MADE: Mapping[str, Callable[[Path], Path]] = {"resnet50": resnet50, "bert-base": bert_base}


def samples_of(model: Path, path: Path, count: int = SAMPLES) -> Path:
    """Write random inputs; a free side of an image is 224, others are 1."""
    rng = np.random.default_rng(1)
    arrays = {}
    for one in onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs():
        sides = [side if isinstance(side, int) else 224 if len(one.shape) == 4 else 1 for side in one.shape]
        shape = (count, *sides[1:])
        integers = "int" in one.type
        arrays[one.name] = rng.integers(0, 200, shape) if integers else rng.standard_normal(shape).astype(np.float32)
        if "int32" in one.type:
            arrays[one.name] = arrays[one.name].astype(np.int32)
        if "uint8" in one.type:
            arrays[one.name] = arrays[one.name].astype(np.uint8)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def measured(model: Path, folder: Path, limit_s: float, more: Sequence[str]) -> float:
    """Return the seconds of the whole command, and print what the record says of the time."""
    data, out = samples_of(model, folder / f"{model.stem}.npz"), folder / f"{model.stem}-run"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "onnxopt", "optimize", str(model), "--data", str(data), "--out", str(out)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--time-limit", f"{limit_s:g}", *more], check=False, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - start
    if (out / "run.json").exists():
        record = json.loads((out / "run.json").read_text())
        words = [record["time_needed"], record["stopped"], record["reason"], *record["analysis"]["problems"]]
        words += [f"{trial['name']}: {trial['verdict']} {trial['reason']}" for trial in record["trials"]]
    else:
        words = done.stderr.splitlines()[-3:]
    print(*(f"    {line}" for line in words if line), sep="\n")
    print(f"{model.stem}: {wall_s:.1f} s of {limit_s:g} s = {wall_s / limit_s:.2f}, exit {done.returncode}", flush=True)
    return wall_s


def main() -> int:
    """Run all, and return 1 where a command took longer than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--only", choices=[*MADE, "none"], help="of the models that are made here")
    parser.add_argument("--prune", action="store_true")
    asked = parser.parse_args()
    late = []
    with tempfile.TemporaryDirectory(prefix="onnxopt-time-limit-") as name:
        folder = Path(name)
        made = [make(folder / f"{kind}.onnx") for kind, make in MADE.items() if asked.only in (None, kind)]
        for model in (*made, *asked.models):
            more = ["--prune"] if asked.prune else []
            if measured(model, folder, asked.limit, more) > PROMISED * asked.limit:
                late.append(model.stem)
    print(f"longer than {PROMISED} x the limit: {', '.join(late) or 'none'}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
