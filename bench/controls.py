"""Files whose place in a table is known before it is measured: what a table must find, or it finds nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NOISE = 2.0
"""Standard deviation of the noise in the worse file's weights, relative to that of the weights."""
CONTROLS = ("again", "planted-slower", "planted-worse")


def controls(source: Path, folder: Path) -> Mapping[str, Path]:
    """Write a copy of a model, one that computes everything twice, and one with noise in its weights.

    A model whose inputs and outputs are no floats has no slower file: ONNX Runtime would merge what is computed twice.
    One without weights of two axes has no worse file.
    """
    planted = {"planted-slower": slower(onnx.load(source)), "planted-worse": worse(onnx.load(source))}
    made = {"again": onnx.load(source), **{name: model for name, model in planted.items() if model is not None}}
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.onnx" for name in made}
    for name, model in made.items():
        onnx.save(model, files[name])
    return files


def worse(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model with noise in every weight of two axes or more; None if it has none."""
    rng, found = np.random.default_rng(0), False
    for tensor in stored(model):
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            weights, found = numpy_helper.to_array(tensor), True
            noisy = weights + rng.normal(0, NOISE * weights.std(), weights.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(noisy, tensor.name))
    return model if found else None


def stored(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield the stored tensors of a model: initializers, and constants, in which some exporters keep weights."""
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.type == onnx.AttributeProto.TENSOR)


def slower(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model with a second network beside it, fed nearly the same, whose output counts nothing."""
    graph, weights = model.graph, {tensor.name for tensor in model.graph.initializer}
    values = [*(v for v in graph.input if v.name not in weights), *graph.output]
    if any(v.type.tensor_type.elem_type != TensorProto.FLOAT for v in values):
        return None
    if any(a.type == onnx.AttributeProto.GRAPH for node in graph.node for a in node.attribute):
        return None
    copied = {v.name: f"copy_{v.name}" for v in values if v not in list(graph.output)}
    nodes = [helper.make_node("Mul", [name, "copy_scale"], [copy]) for name, copy in copied.items()]
    copied |= {name: f"copy_{name}" for node in graph.node for name in node.output if name}
    for node in graph.node:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = f"copy_{node.name}" if node.name else ""
        twin.input[:] = [copied.get(name, name) for name in node.input]
        twin.output[:] = [copied.get(name, name) for name in node.output]
        nodes.append(twin)
    renamed = {v.name: f"first_{v.name}" for v in graph.output}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for name, first in renamed.items():
        nodes.append(helper.make_node("Mul", [f"copy_{name}", "copy_zero"], [f"zero_{name}"]))
        nodes.append(helper.make_node("Add", [first, f"zero_{name}"], [name]))
    graph.node.extend(nodes)
    scalars = (("copy_scale", 1.001), ("copy_zero", 1e-30))
    graph.initializer.extend(numpy_helper.from_array(np.float32(number), name) for name, number in scalars)
    return model
