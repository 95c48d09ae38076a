"""Products inside the body of a Scan, the form in which some exporters write recurrent layers."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import onnx_ir as ir

from onnxopt.graph.names import free_name, names_in
from onnxopt.reconstruction.layers import LinearLayer, give_bias, linear_layer

_PRODUCTS = ("Gemm", "MatMul")
_FIRST_OPSET = 9
"""In earlier opsets Scan had a batch axis."""


def with_bodies(model: ir.Model) -> Iterator[tuple[int, ir.Node]]:
    """Yield the nodes of the main graph with their position; after each Scan, the nodes of its body at its position."""
    for number, node in enumerate(model.graph):
        yield number, node
        for inner in _body(node) or ():
            yield number, inner


def observed(model: ir.Model, *, biases: bool) -> tuple[dict[str, LinearLayer], set[str]]:
    """Add the inputs and outputs of the products in the body of every Scan to its outputs, in place.

        Scan(Gemm(x_t) -> y_t)   ->   x, y stacked over the steps, as values of the main graph

    Args:
        model: a model with named nodes; initializers of the bodies move to the main graph.
        biases: whether products without a bias get a zero bias.

    Returns:
        The products as layers with the stacked values as input and output, and the names of the biases.
    """
    found, made = dict[str, LinearLayer](), set[str]()
    if model.graph.opset_imports.get("", _FIRST_OPSET) < _FIRST_OPSET:
        return found, made
    taken, alike = names_in(model), Counter(node.name for node in model.graph.all_nodes())
    for node in model.graph:
        body = _body(node)
        if body is None:
            continue
        for inner in [n for n in body if n.op_type in _PRODUCTS and not n.domain]:
            if not inner.name or alike[inner.name] > 1:
                alike[inner.name] -= 1
                inner.name = free_name(taken, f"{node.name}_{inner.op_type}")
            _adopt(model, body, inner, taken)
            layer = linear_layer(model, inner)
            if layer is None:
                continue
            if biases and layer.bias is None:
                made.add(give_bias(model, inner, layer, taken))
                layer = linear_layer(model, inner)
                assert layer is not None
            x = inner.inputs[0 if layer.side == "right" else 1]
            assert x is not None
            seen = [_shown(node, body, value, taken) for value in (x, inner.outputs[0])]
            found[layer.node] = replace(layer, x=seen[0], y=seen[1])
    return found, made


def hidden(model: ir.Model, layers: Iterable[LinearLayer]) -> None:
    """Remove the Scan outputs that `observed` added, in place."""
    names = {name for layer in layers for name in (layer.x, layer.y)}
    for node in model.graph:
        body = _body(node)
        count = sum(value.name in names for value in node.outputs)
        if body is None or not count:
            continue
        last = list(body.outputs)[-count:]
        node.resize_outputs(len(node.outputs) - count)
        for name in ("scan_output_axes", "scan_output_directions"):
            if name in node.attributes:
                node.attributes[name] = ir.AttrInt64s(name, list(node.attributes[name].as_ints())[:-count])
        for value in last:
            body.outputs.remove(value)
            shown = value.producer()
            assert shown is not None
            body.remove(shown, safe=True)


def steps_of(layer: LinearLayer, inner: Collection[str], shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the number of runs of a layer, and the shape of its input in each."""
    return (shape[0], shape[1:]) if layer.node in inner else (1, shape)


def _body(node: ir.Node) -> ir.Graph | None:
    return node.attributes["body"].as_graph() if node.op_type == "Scan" and not node.domain else None


def _adopt(model: ir.Model, body: ir.Graph, node: ir.Node, taken: set[str]) -> None:
    """Move the initializers that a node of a body reads, and those of an Add after it, to the main graph."""
    behind = [user for user, _ in node.outputs[0].uses() if user.op_type == "Add"]
    for value in [v for n in (node, *behind) for v in n.inputs if v is not None]:
        name = value.name or ""
        if name in body.initializers and value.const_value is not None:
            body.initializers.pop(name)
            if name in model.graph.initializers:
                value.name = free_name(taken, name)
            model.graph.register_initializer(value)


def _shown(scan: ir.Node, body: ir.Graph, value: ir.Value, taken: set[str]) -> str:
    """Add a value of its body to the outputs of a Scan, stacked over the steps; return its name."""
    copy = ir.Node("", "Identity", [value], name=free_name(taken, f"{value.name}_shown"))
    copy.outputs[0].name = free_name(taken, f"{value.name}_step")
    copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
    body.append(copy)
    body.outputs.append(copy.outputs[0])
    scan.resize_outputs(len(scan.outputs) + 1)
    stacked = scan.outputs[-1]
    stacked.name, stacked.type = free_name(taken, f"{value.name}_steps"), value.type
    for name in ("scan_output_axes", "scan_output_directions"):
        if name in scan.attributes:
            scan.attributes[name] = ir.AttrInt64s(name, [*scan.attributes[name].as_ints(), 0])
    return stacked.name
