"""Label rules of data-movement operators, executed on the positions of each axis."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.execute import Move, execute
from onnxopt.graph.channels.labels import Axes, Vector
from onnxopt.graph.channels.trace import Frozen, Rule, Trace


def _constant(trace: Trace, node: ir.Node, slot: int, attribute: str) -> list[int] | None:
    """Return integers of an attribute or, in later opsets, of an input; None if the node has neither.

    Raises:
        Frozen: the integers are computed from dynamic sizes.
    """
    if attribute in node.attributes:
        return [int(i) for i in node.attributes[attribute].as_ints()]
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None:
        return None
    known = trace.known(value)
    if known is None:
        raise Frozen(f"{node.op_type} {node.name} has computed {attribute}")
    return [int(i) for i in known.reshape(-1)]


def _reshape(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    shape = trace.shape(node.outputs[0])
    return (execute(trace, node, lambda a: a.reshape(shape)),)


def _transpose(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(node.inputs[0])
    order = node.attributes.get_ints("perm", range(len(axes))[::-1])
    return (tuple(axes[i] for i in order),)


def _grow(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow Expand: the positions of an axis that grows are copies of one value."""
    value = node.inputs[0]
    if value is None:
        raise Frozen("Expand lacks an input")
    before, shape = trace.shape(value), trace.shape(node.outputs[0])
    missing = len(shape) - len(before)
    old = zip((*(1 for _ in range(missing)), *before), (*(None for _ in range(missing)), *trace.of(value)), strict=True)
    grown = [
        trace.labels.fresh(after, copies=True) if size == 1 and after > 1 else vector
        for (size, vector), after in zip(old, shape, strict=True)
    ]
    return (tuple(grown),)


def _filled(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow ConstantOfShape."""
    shape = trace.shape(node.outputs[0])
    return (tuple(trace.labels.fresh(size, copies=True) if size > 1 else None for size in shape),)


def _tile(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    repeats = _constant(trace, node, 1, "repeats")
    axes = trace.of(node.inputs[0])
    if repeats is None or len(repeats) != len(axes):
        raise Frozen(f"{node.op_type} {node.name} is of an old opset")
    return (tuple(None if v is None else np.tile(v, n) for v, n in zip(axes, repeats, strict=True)),)


def _concat(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    inputs = [v for v in node.inputs if v is not None]
    rank = len(trace.shape(inputs[0]))
    along, result = node.attributes.get_int("axis", 0) % rank, list[Vector | None]()
    for axis in range(rank):
        vectors = [trace.of(v)[axis] for v in inputs]
        if axis != along:
            reason = f"Concat {node.name} joins it with channels that cannot be cut"
            result.append(trace.labels.same(vectors, reason))
        elif all(v is None for v in vectors):
            result.append(None)
        else:
            fixed = "a part that cannot be cut"
            sizes = [trace.shape(v)[axis] for v in inputs]
            pairs = zip(vectors, sizes, strict=True)
            result.append(np.concatenate([trace.labels.fresh(n, fixed) if v is None else v for v, n in pairs]))
    return (tuple(result),)


def _split(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(node.inputs[0])
    along = node.attributes.get_int("axis", 0) % len(axes)
    sizes = [trace.shape(v)[along] for v in node.outputs]
    vector = axes[along]
    parts = [None] * len(sizes) if vector is None else np.split(vector, np.cumsum(sizes)[:-1])
    return tuple((*axes[:along], part, *axes[along + 1 :]) for part in parts)


def _slice(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    value, result = node.inputs[0], list(trace.of(node.inputs[0]))
    if value is None:
        raise Frozen("Slice lacks an input")
    for axis, bounds in slices(trace, node).items():
        vector = result[axis]
        if vector is None:
            continue
        if bounds is None:
            trace.labels.freeze(vector, f"Slice {node.name} has computed bounds")
            result[axis] = None
            continue
        taken = vector[taken_positions(bounds, trace.shape(value)[axis])]
        if len(taken) == 1:
            trace.labels.freeze(taken, f"Slice {node.name} picks one position of it")
        result[axis] = taken if len(taken) > 1 else None
    return (tuple(result),)


Bounds = tuple[int, int, int]
"""Start, end and step, as inputs of a Slice."""


def _counted(bounds: Bounds, size: int) -> Bounds:
    return slice(bounds[0], bounds[1] if bounds[1] >= -size or bounds[2] > 0 else None, bounds[2]).indices(size)


def taken_positions(bounds: Bounds, size: int) -> Vector:
    """Return the positions that a Slice takes of an axis."""
    return np.arange(*_counted(bounds, size))


def slices(trace: Trace, node: ir.Node) -> dict[int, Bounds | None]:
    """Return start, end and step per axis of a Slice; None if they are computed from dynamic sizes."""
    value = node.inputs[0]
    assert value is not None
    rank = len(trace.shape(value))
    axes, steps = _constant(trace, node, 3, "axes"), _constant(trace, node, 4, "steps")
    try:
        starts, ends = _constant(trace, node, 1, "starts"), _constant(trace, node, 2, "ends")
    except Frozen:
        return dict.fromkeys(range(rank) if axes is None else [a % rank for a in axes])
    if starts is None or ends is None:
        raise Frozen(f"Slice {node.name} lacks an input")
    axes = axes if axes is not None else list(range(len(starts)))
    steps = steps if steps is not None else [1] * len(starts)
    return {axis % rank: (i, j, k) for axis, i, j, k in zip(axes, starts, ends, steps, strict=True)}


def _gather(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    data, picked = node.inputs[0], node.inputs[1]
    axes = trace.of(data)
    along = node.attributes.get_int("axis", 0) % len(axes)
    vector, indices = axes[along], trace.known(picked)
    if picked is None:
        raise Frozen("Gather lacks an input")
    rank = len(trace.shape(picked))
    middle: Axes = tuple(None for _ in range(rank))
    if indices is None and trace.is_weight(data):
        for table in (*axes[:along], *axes[along + 1 :]):
            if table is not None:
                trace.sources.append((node.name or "", table))
    if vector is not None:
        if indices is None or rank != 1 or len(indices) < 2:
            trace.labels.freeze(vector, f"Gather {node.name} selects positions of it")
        else:
            middle = (vector[indices],)
    elif indices is None:
        middle = trace.of(picked)
        for part in middle:
            trace.labels.freeze(part, f"Gather {node.name} reads it as positions")
        middle = tuple(None for _ in middle)
    return ((*axes[:along], *middle, *axes[along + 1 :]),)


def _pad(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(node.inputs[0])
    if all(v is None for v in axes):
        return (axes,)
    pads, chosen = _constant(trace, node, 1, "pads"), _constant(trace, node, 3, "-")
    if pads is None:
        raise Frozen(f"Pad {node.name} is of an old opset")
    mode = node.attributes.get_string("mode", "constant")
    listed = [a % len(axes) for a in chosen] if chosen is not None else list(range(len(axes)))
    result = list(axes)
    for position, axis in enumerate(listed):
        before, after, vector = pads[position], pads[position + len(listed)], result[axis]
        if vector is None or not (before or after):
            continue
        crops = before < 0 or after < 0
        if mode != "constant" or crops:
            trace.labels.freeze(vector, f"Pad {node.name} {'crops it' if crops else 'repeats positions of it'}")
            result[axis] = None
            continue
        fixed = [trace.labels.fresh(n, "padding") for n in (before, after)]
        result[axis] = np.concatenate([fixed[0], vector, fixed[1]])
    return (tuple(result),)


def _resize(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    value = node.inputs[0]
    if value is None or (
        "coordinate_transformation_mode" in node.attributes
        and node.attributes["coordinate_transformation_mode"].as_string() == "tf_crop_and_resize"
    ):
        raise Frozen(f"{node.op_type} {node.name} crops")
    axes, result = trace.of(value), list[Vector | None]()
    for vector, before, after in zip(axes, trace.shape(value), trace.shape(node.outputs[0]), strict=True):
        if before != after:
            trace.labels.freeze(vector, f"{node.op_type} {node.name} resizes it")
        result.append(vector if before == after else None)
    return (tuple(result),)


def _depth_to_space(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    block = node.attributes["blocksize"].as_int()
    by_row = node.attributes.get_string("mode", "DCR") == "DCR"

    def move(a: np.ndarray) -> np.ndarray:
        n, c, h, w = a.shape
        if by_row:
            turned = a.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            turned = a.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
        return turned.reshape(n, c // block**2, h * block, w * block)

    return (_channels_only(trace, node, move),)


def _space_to_depth(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    block = node.attributes["blocksize"].as_int()

    def move(a: np.ndarray) -> np.ndarray:
        n, c, h, w = a.shape
        turned = a.reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
        return turned.reshape(n, c * block**2, h // block, w // block)

    return (_channels_only(trace, node, move),)


def _channels_only(trace: Trace, node: ir.Node, move: Move) -> Axes:
    for axis, vector in enumerate(trace.of(node.inputs[0])):
        if axis != 1 and vector is not None:
            trace.labels.freeze(vector, f"{node.op_type} {node.name} mixes it with the channels")
            raise Frozen(f"{node.op_type} {node.name} mixes it with another axis")
    return execute(trace, node, move, 1)


def _triangle(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(node.inputs[0])
    for vector in axes[-2:]:
        trace.labels.freeze(vector, f"Trilu {node.name} zeroes parts of it")
    return ((*axes[:-2], None, None),)


def _quantized(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow a change of type; scales and zero points per channel belong to the channels."""
    axes = list(trace.of(node.inputs[0]))
    if node.attributes.get_int("block_size", 0):
        raise Frozen(f"{node.op_type} {node.name} has a scale per block")
    axis = node.attributes.get_int("axis", 1)
    for value in node.inputs[1:]:
        if value is not None and trace.shape(value) not in ((), (1,)):
            reason = f"{node.op_type} {node.name} scales it by channels that cannot be cut"
            axes[axis] = trace.labels.same((axes[axis], trace.of(value)[0]), reason)
    return (tuple(axes),)


def _sizes_only(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow a node that reads only sizes: it keeps the sizes of the original graph."""
    del trace, node
    return ()


MOVES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
        "Transpose": _transpose,
        "Expand": _grow,
        "Tile": _tile,
        "Concat": _concat,
        "Split": _split,
        "Slice": _slice,
        "Gather": _gather,
        "Pad": _pad,
        **dict.fromkeys(("Resize", "Upsample"), _resize),
        "DepthToSpace": _depth_to_space,
        "SpaceToDepth": _space_to_depth,
        **dict.fromkeys(("Shape", "Range"), _sizes_only),
        "ConstantOfShape": _filled,
        "Trilu": _triangle,
        **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantized),
    }
)
