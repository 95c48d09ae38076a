"""A decoder with a cache in float, 8 and 4 bits while it generates: first token, tokens per second, memory.

    python bench/decoding.py [--layers 12] [--width 512] [--seconds 10]
    python bench/decoding.py --layers 17 --width 1536 --seconds 120 --out bench/results/DATE-decoding-half-billion.json

Makes a decoder of causal attention, as Transformers exports them, with weights from a seed: they say nothing about
language, so there is no perplexity. Measures how long each form takes to make, too. Saves the table as JSON under
`bench/results/`.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnxopt
from onnxopt.measure.runtime.environment import environment

RESULTS = Path(__file__).parent / "results"
VOCABULARY, HEADS, LONGEST = 8000, 8, 1024
MOST_INSIDE = 300_000_000
"""Weights of a model that is written as one file."""
FORMS: Mapping[str, str] = MappingProxyType(
    {
        "dynamic INT8": "simplify,quantize-dynamic",
        "8 bits": "simplify,quantize-weights{bits=8,method=rtn}",
        "4 bits": "simplify,quantize-weights{bits=4,method=rtn}",
    }
)


class _Writer:
    def __init__(self) -> None:
        self.nodes, self.weights = list[onnx.NodeProto](), list[TensorProto]()
        self.rng = np.random.default_rng(0)

    def node(self, op: str, *inputs: str, out: str = "", **attributes: object) -> str:
        out = out or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], f"n{len(self.nodes)}", **attributes))
        return out

    def const(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        return self.const(self.rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0])))

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))


def decoder(layers: int, width: int) -> onnx.ModelProto:
    """Return a decoder of causal attention and two-layer blocks whose cache grows by concatenation."""
    net, size = _Writer(), width // HEADS
    x = net.node("Gather", net.weight(VOCABULARY, width), "input_ids")
    x = net.node("Add", x, net.node("Gather", net.weight(LONGEST, width), "position_ids"))
    place = net.node("Sub", net.node("CumSum", "attention_mask", net.const(np.int64(1))), net.const(np.int64(1)))
    later = net.node(
        "Greater", net.node("Unsqueeze", place, net.ints(1, 2)), net.node("Unsqueeze", "position_ids", net.ints(1, 3))
    )
    bias = net.node("Where", later, net.const(np.float32(-1e9)), net.const(np.float32(0)))
    cache = []
    for i in range(layers):
        normal = _norm(net, x, width)
        parts = []
        for role in ("query", "key", "value"):
            part = net.node(
                "Reshape", net.node("MatMul", normal, net.weight(width, width)), net.ints(0, 0, HEADS, size)
            )
            part = net.node("Transpose", part, perm=[0, 2, 1, 3])
            if role != "query":
                part = net.node("Concat", f"past_key_values.{i}.{role}", part, axis=2, out=f"present.{i}.{role}")
                cache.append(f"{i}.{role}")
            parts.append(part)
        scores = net.node("MatMul", parts[0], net.node("Transpose", parts[1], perm=[0, 1, 3, 2]))
        scores = net.node("Add", net.node("Mul", scores, net.const(np.float32(size**-0.5))), bias)
        mixed = net.node("Transpose", net.node("MatMul", net.node("Softmax", scores), parts[2]), perm=[0, 2, 1, 3])
        mixed = net.node("MatMul", net.node("Reshape", mixed, net.ints(0, 0, width)), net.weight(width, width))
        x = net.node("Add", x, mixed)
        inner = net.node("MatMul", _norm(net, x, width), net.weight(width, 4 * width))
        inner = net.node("Mul", inner, net.node("Sigmoid", inner))
        x = net.node("Add", x, net.node("MatMul", inner, net.weight(4 * width, width)))
    net.node("MatMul", _norm(net, x, width), net.weight(width, VOCABULARY), out="logits")
    whole, floats = TensorProto.INT64, TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info("input_ids", whole, ["batch_size", "sequence_length"]),
        helper.make_tensor_value_info("attention_mask", whole, ["batch_size", "total_sequence_length"]),
        helper.make_tensor_value_info("position_ids", whole, ["batch_size", "sequence_length"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", floats, ["batch_size", "sequence_length", VOCABULARY])]
    for name in cache:
        past, present = (["batch_size", HEADS, f"{when}_sequence_length", size] for when in ("past", "total"))
        inputs.append(helper.make_tensor_value_info(f"past_key_values.{name}", floats, past))
        outputs.append(helper.make_tensor_value_info(f"present.{name}", floats, present))
    graph = helper.make_graph(net.nodes, "decoder", inputs, outputs, net.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(model: onnx.ModelProto, path: Path) -> int:
    """Write a model, a large one with its weights in a file beside; return the number of weights."""
    count = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    onnx.save(model, path, save_as_external_data=count > MOST_INSIDE, location=f"{path.name}.data")
    return count


def _files(path: Path) -> list[Path]:
    return [path, *path.parent.glob(f"{path.name}.data")]


def _norm(net: _Writer, x: str, width: int) -> str:
    ones, zeros = net.const(np.ones(width, np.float32)), net.const(np.zeros(width, np.float32))
    return net.node("LayerNormalization", x, ones, zeros, axis=-1)


def _ratio(row: Mapping[str, Any], part: str) -> str:
    ratio = row[f"{part}_speedup"]
    if ratio is None:
        return "(unsure)" if row[f"{part}_unsure"] else ""
    return f"({ratio['value']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}])"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-decoding.json")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        files, made = {"float": Path(folder) / "float.onnx"}, dict[str, dict[str, float]]()
        parameters = write(decoder(given.layers, given.width), files["float"])
        for name, passes in FORMS.items():
            files[name] = Path(folder) / f"{name}.onnx"
            begun, before = time.perf_counter(), time.process_time()
            onnxopt.apply(files["float"], passes, out=files[name])
            spent = time.perf_counter() - begun, time.process_time() - before
            made[name] = dict(zip(("make_s", "make_processor_s"), spent, strict=True))
        load = os.getloadavg()[0]
        found = onnxopt.generation(
            files, prompt_tokens=given.prompt_tokens, new_tokens=given.new_tokens, seconds=given.seconds
        )
        sizes = {name: sum(file.stat().st_size for file in _files(path)) for name, path in files.items()}
    measured = found.document.data["models"]
    rows = [{**row, "size_bytes": sizes[row["model"]], **made.get(row["model"], {})} for row in measured]
    options = {key: value for key, value in vars(given).items() if key != "out"}
    about = {"parameters": parameters, "load_before": load, "load_after": os.getloadavg()[0]}
    record = {"environment": environment(), "options": options, **about, "passes": dict(FORMS), "models": rows}
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    for row in rows:
        private = "-" if row["private_bytes"] is None else f"{row['private_bytes'] / 1e6:.0f} MB"
        first, rate = (_ratio(row, part) for part in ("first", "rate"))
        print(
            f"{row['model']:14} {row['size_bytes'] / 1e6:7.1f} MB  first {row['first_token_ms']:8.1f} ms {first}  "
            f"{row['tokens_per_s']:7.1f} tokens/s {rate}  private {private}  made in {row.get('make_s', 0):.0f} s"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
