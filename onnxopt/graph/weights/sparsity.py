"""Weights of layers with their reduction axes, and their sparsity."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.layers import WEIGHT_SLOTS
from onnxopt.model_file.streamed import array_of

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

_PRODUCTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), (1,)),
    **dict.fromkeys(("Gemm", "MatMul"), (1, 0)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
}
"""Operators with known weights, and their input slots; biases, peepholes and initial states do not count."""

_SCALES = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "PRelu")
"""Operators whose weights are never pruned, like biases."""

_MOVED = ("Reshape", "Unsqueeze", "Squeeze", "Flatten")


@dataclass(frozen=True)
class Axes:
    """Axes of a stored weight that are the outputs and inputs of a layer; None without such an axis."""

    outputs: int | None
    inputs: int | None


@dataclass(frozen=True)
class Weight:
    """A float initializer by which layers multiply.

    Attributes:
        layers: names of all layers that read it.
        axes: None if the layers read it in different ways, or after a reshape.
    """

    value: ir.Value
    layers: tuple[str, ...]
    axes: Axes | None


@dataclass(frozen=True)
class Refused:
    """A tensor that looks like a weight but cannot be edited."""

    target: str
    value: ir.Value | None
    reason: str


@dataclass(frozen=True)
class Sparsity:
    """Exact zeros among float weights.

    Attributes:
        zeros: zeros in all weights, each weight counted once.
        elements: elements of all weights, each weight counted once.
        layers: zeros and elements of the weights of each layer, by name.
    """

    zeros: int
    elements: int
    layers: Mapping[str, tuple[int, int]]

    @property
    def total(self) -> float | None:
        """Share of zeros; None without float weights."""
        return self.zeros / self.elements if self.elements else None

    def of_layer(self, name: str) -> float | None:
        """Return the share of zeros in a layer's weights, without its bias; None if it has no float weights."""
        zeros, elements = self.layers.get(name, (0, 0))
        return zeros / elements if elements else None


def weights_of(model: ir.Model) -> tuple[list[Weight], list[Refused]]:
    """Return the weights of convolutions, products and recurrent layers, each once, and refused tensors with reasons.

    A weight may pass through Identity, Cast, Transpose or a reshape. It is refused if another reader uses it too (as an
    embedding, as a bias, as an output of the graph), because an edit would change that reader.
    """
    found: dict[int, tuple[ir.Value, list[str], list[Axes | None]]] = {}
    refused: list[Refused] = []
    for node in model.graph.all_nodes():
        name = node.name or node.op_type
        if node.op_identifier() in model.functions:
            if any(v is not None and _root(v)[1] is None and _is_float(_root(v)[0]) for v in node.inputs):
                refused.append(Refused(name, None, "its weights are used inside a function; run simplify first"))
            continue
        for slot, value, root, obstacle in _reads(node):
            if obstacle:
                refused.append(Refused(name, root, obstacle))
                continue
            rank = 0 if root.const_value is None else len(root.const_value.shape)
            _, names, axes = found.setdefault(id(root), (root, [], []))
            names.append(name)
            axes.append(_axes(node, slot, value, rank))
    kept = list[Weight]()
    for root, names, axes in found.values():
        other = next(_other_uses(root), None)
        layers = tuple(dict.fromkeys(names))
        if other is not None:
            refused.append(Refused(", ".join(layers), root, f"its weight {root.name} is also read by {other}"))
        else:
            kept.append(Weight(root, layers, axes[0] if all(a == axes[0] for a in axes) else None))
    return kept, refused


def _reads(node: ir.Node) -> Iterator[tuple[int, ir.Value, ir.Value, str]]:
    """Yield the input slots of a layer with weights: slot, value, its initializer, and the reason if it is refused."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _SCALES:
        return
    products = _PRODUCTS.get(node.op_type)
    slots = (*WEIGHT_SLOTS.get(node.op_type, ()), *(products or ()))
    for slot, value in enumerate(node.inputs):
        if value is None or slot not in slots:
            continue
        root, obstacle = _root(value)
        if obstacle == "" or (obstacle is None and products is not None and slot not in products):
            continue
        if obstacle is None and not _is_float(root):
            if node.op_type == "Gather":
                continue
            obstacle = "its weight is of integers"
        if obstacle is None and products is None:
            obstacle = f"weights of {node.op_type} are never pruned"
        yield slot, value, root, obstacle or ""


def sparsity_of(model: ir.Model) -> Sparsity:
    """Count the zeros of all float weights; reads every weight."""
    counts: dict[int, tuple[int, int]] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            _count(counts, value)
    layers: dict[str, tuple[int, int]] = {}
    for node in model.graph.all_nodes():
        if node.op_type == "Constant":
            _count(counts, node.outputs[0])
        slots = _PRODUCTS.get(node.op_type, WEIGHT_SLOTS.get(node.op_type, ()))
        for value in {v for i, v in enumerate(node.inputs) if i in slots and v is not None}:
            root = _root(value)[0]
            _count(counts, root)
            zeros, elements = counts.get(id(root), (0, 0))
            before = layers.get(node.name or "", (0, 0))
            if elements:
                layers[node.name or ""] = (before[0] + zeros, before[1] + elements)
    return Sparsity(sum(z for z, _ in counts.values()), sum(n for _, n in counts.values()), layers)


def _count(counts: dict[int, tuple[int, int]], value: ir.Value) -> None:
    tensor = value.const_value
    node = value.producer()
    if node is not None:
        tensor = node.attributes["value"].as_tensor() if "value" in node.attributes else None
    if tensor is not None and tensor.dtype in FLOATS and id(value) not in counts:
        array = array_of(tensor)
        counts[id(value)] = (array.size - int(np.count_nonzero(array)), array.size)


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype in FLOATS


def _root(value: ir.Value) -> tuple[ir.Value, str | None]:
    """Return the stored tensor behind `value`, and why it is no weight: None if it is one, "" if it is data."""
    node = value.producer()
    if node is None:
        return value, None if value.is_initializer() else ""
    if node.op_type in ("Identity", "Cast", "Transpose", *_MOVED) and node.inputs[0] is not None:
        return _root(node.inputs[0])
    if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
        root, obstacle = _root(node.inputs[0])
        return root, "its weight is quantized" if obstacle is None else obstacle
    if node.op_type == "Constant":
        return value, "its weight is a Constant node; run simplify first"
    return value, ""


def _axes(node: ir.Node, slot: int, value: ir.Value, rank: int) -> Axes | None:
    """Return which of the `rank` stored axes are outputs and inputs of the layer, followed through every Transpose.

    None if that is unknown; a weight of a model that does not run may have fewer axes than its layer reads.
    """
    if node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) > 1:
        return None
    order, current = list(range(rank)), value
    while (producer := current.producer()) is not None:
        if producer.op_type in _MOVED:
            return None
        if producer.op_type == "Transpose":
            given = producer.attributes.get("perm")
            turned = list(range(rank))[::-1] if given is None else list(given.as_ints())
            if sorted(turned) != list(range(rank)):
                return None
            order = [turned[axis] for axis in order]
        assert producer.inputs[0] is not None
        current = producer.inputs[0]
    outputs, inputs = _read_axes(node, slot, rank)
    if max(-1 if outputs is None else outputs, -1 if inputs is None else inputs) >= rank:
        return None
    return Axes(None if outputs is None else order[outputs], None if inputs is None else order[inputs])


def _read_axes(node: ir.Node, slot: int, rank: int) -> tuple[int | None, int | None]:
    match node.op_type:
        case "Conv":
            return 0, 1
        case "ConvTranspose":
            return 1, 0
        case "LSTM" | "GRU" | "RNN":
            return 1, 2
        case "Gemm" if slot == 1:
            return (0, 1) if node.attributes.get_int("transB", 0) else (1, 0)
        case "Gemm":
            return (1, 0) if node.attributes.get_int("transA", 0) else (0, 1)
    if rank < 2:
        return None, (rank - 1 if rank else None)
    return (rank - 1, rank - 2) if slot == 1 else (rank - 2, rank - 1)


def _other_uses(value: ir.Value) -> Iterator[str]:
    """Yield the readers of a weight, in any form, that are not layers that multiply by it."""
    if value.is_graph_output():
        yield "the outside, as an output of the graph"
    for node, slot in value.uses():
        if node.op_type in ("Identity", "Cast", "Transpose", *_MOVED) and slot == 0:
            for output in node.outputs:
                yield from _other_uses(output)
        elif slot not in _PRODUCTS.get(node.op_type, ()):
            yield f"{node.name or node.op_type} ({node.op_type})"
