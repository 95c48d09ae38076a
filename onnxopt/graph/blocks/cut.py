"""Remove blocks physically, or switch them off with gates: both must give the same outputs."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.blocks.find import Block
from onnxopt.graph.edit import set_weight


def without_blocks(model: ir.Model, blocks: Sequence[Block]) -> ir.Model:
    """Return a copy of `model` without the blocks, and without the nodes and weights that only they needed."""
    result = model.clone()
    used = {name for name, value in result.graph.initializers.items() if value.uses()}
    for block in _in_order(model, blocks):
        end = _value(result, block.end)
        if block.slot is None:
            _leave_out(end)
        else:
            source = _node(result, block.layers[0]).inputs[block.slot]
            assert source is not None
            _replace(end, source)
    drop_needless(result, used)
    return result


def gate_names(blocks: Sequence[Block]) -> list[str]:
    """Return the name of the gate of each block in `gated`."""
    return [f"onnxopt.gate.{i}" for i in range(len(blocks))]


def gated(model: ir.Model, blocks: Sequence[Block], *, closed: bool = False) -> ir.Model:
    """Return a copy of `model` that multiplies the output of each block by a gate: 1 keeps the block, 0 removes it.

    A plain layer with a closed gate returns its input.

    Args:
        model: the input model (not modified).
        blocks: blocks of `model`.
        closed: whether all gates are the constant zero; else they are scalar inputs, of the type of the gated value.
    """
    result = model.clone()
    graph = result.graph
    names = {id(b): name for b, name in zip(blocks, gate_names(blocks), strict=True)}
    for block in _in_order(model, blocks):
        gate = ir.Value(name=names[id(block)], type=ir.TensorType(block.dtype), shape=ir.Shape([]))
        if closed:
            set_weight(gate, np.zeros((), block.dtype.numpy()))
            graph.register_initializer(gate)
        else:
            graph.inputs.append(gate)
        _put_gate(result, block, gate)
    return result


def _put_gate(model: ir.Model, block: Block, gate: ir.Value) -> None:
    graph, end = model.graph, _value(model, block.end)
    before = end.producer()
    assert before is not None
    uses, name = list(end.uses()), gate.name
    nodes = [ir.Node("", "Mul", [end, gate], name=f"{name}.scaled")]
    if block.slot is not None:
        source = _node(model, block.layers[0]).inputs[block.slot]
        one = ir.Value(name=f"{name}.one")
        set_weight(one, np.ones((), block.dtype.numpy()))
        graph.register_initializer(one)
        nodes.append(ir.Node("", "Sub", [one, gate], name=f"{name}.rest"))
        nodes.append(ir.Node("", "Mul", [source, nodes[-1].outputs[0]], name=f"{name}.source"))
        nodes.append(ir.Node("", "Add", [nodes[0].outputs[0], nodes[-1].outputs[0]], name=f"{name}.mixed"))
    for node in nodes:
        node.outputs[0].name = f"{node.name}.out"
    result = nodes[-1].outputs[0]
    for user, slot in uses:
        user.replace_input_with(slot, result)
    if end.is_graph_output():
        _take_output(graph, end, result)
    graph.insert_after(before, nodes)


def _in_order(model: ir.Model, blocks: Sequence[Block]) -> list[Block]:
    """Sort blocks so that no removal deletes the end of a later block: from the back, plain layers last."""
    places = {v.name: place for place, node in enumerate(model.graph) for v in node.outputs}
    return sorted(blocks, key=lambda b: (b.slot is not None, -places[b.end]))


def _leave_out(end: ir.Value) -> None:
    """Remove a value from the sum that is its only reader."""
    if not end.uses():
        return  # the sum was removed with a block around it
    (node, slot), *_ = end.uses()
    rest = [v for i, v in enumerate(node.inputs) if i != slot]
    if len(rest) == 1:
        assert rest[0] is not None
        assert isinstance(node.graph, ir.Graph)
        graph, source = node.graph, rest[0]
        _replace(node.outputs[0], source)
        # The sum keeps its node, because the ends of later blocks are found through it.
        graph.remove(node, safe=True)
        _drop_second_relu(source)
        return
    for i, value in enumerate(rest):
        node.replace_input_with(i, value)
    node.resize_inputs(len(rest))


def _drop_second_relu(value: ir.Value) -> None:
    """Remove the activation after a removed sum if the skip connection comes from the same activation."""
    before = value.producer()
    if before is not None and before.op_type == "Relu":
        for node in [node for node, _ in value.uses() if node.op_type == "Relu" and node.graph is before.graph]:
            _replace(node.outputs[0], value)


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Redirect all readers of `old` to `new`; an output of the graph keeps its name."""
    node = old.producer()
    assert node is not None
    assert isinstance(node.graph, ir.Graph)
    if not old.is_graph_output():
        old.replace_all_uses_with(new)
        return
    copy = ir.Node("", "Identity", [new], name=f"{node.name}.same")
    graph = node.graph
    graph.insert_after(node, copy)
    for user, slot in list(old.uses()):
        user.replace_input_with(slot, new)
    _take_output(graph, old, copy.outputs[0])


def take_name(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Put a value in the place of another, for all its readers and as an output, under its name."""
    for user, slot in list(old.uses()):
        user.replace_input_with(slot, new)
    _take_output(graph, old, new)


def _take_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    name = old.name
    new.type, new.shape = old.type, old.shape
    for position, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[position] = new
    old.name = f"{name}.before"
    new.name = name


def drop_needless(model: ir.Model, used: set[str]) -> None:
    """Remove nodes that nothing reads, in place, and of the weights in `used` those that nothing reads any more."""
    graph = model.graph
    for node in reversed(list(graph)):
        if any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        for attribute in node.attributes.values():
            if attribute.type is ir.AttributeType.GRAPH:
                for inner in attribute.as_graph().all_nodes():
                    for slot in range(len(inner.inputs)):
                        inner.replace_input_with(slot, None)
        graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if name in used and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(name)
            if value in graph.inputs:  # before IR version 4 weights had to be listed
                graph.inputs.remove(value)


def _value(model: ir.Model, name: str) -> ir.Value:
    return next(v for node in model.graph for v in node.outputs if v.name == name)


def _node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)
