"""Hard sigmoids that exporters wrote as three or four operators, as the one that the runtime merges with a layer.

        Clip(x + 3, 0, 6) / 6       ->   HardSigmoid(x)
        x * Clip(x + 3, 0, 6) / 6   ->   x * HardSigmoid(x)

The hard swish of Howard et al., "Searching for MobileNetV3", ICCV 2019. ONNX Runtime computes a convolution and the
second form in one step, the first form never.
"""

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.scales.reading import only_user, scalar_of

_CLOSE = 1e-6
"""Largest relative deviation from one of a factor that is left out: float32 cannot store one sixth."""

_KIND = ir.DataType.FLOAT


@dataclass(frozen=True)
class _Found:
    """A hard sigmoid, `Clip(scale * source + shift, 0, 1)`, times a factor where there is one.

    Attributes:
        last: node that computes the whole.
        factor: the other factor of a product.
    """

    source: ir.Value
    scale: float
    shift: float
    last: ir.Node
    factor: ir.Value | None


def write_hard_sigmoids(model: ir.Model) -> list[str]:
    """Replace decomposed hard sigmoids of the main graph in place, and return the names of their last nodes.

    Only those of float32 are replaced.
    """
    writer, names = NodeWriter(model, "hard_sigmoid"), list[str]()
    for node in list(model.graph):
        found = _found(node)
        if found is None:
            continue
        writer.anchor = found.last
        result = writer("HardSigmoid", found.source, kind=_KIND, alpha=found.scale, beta=found.shift)
        if found.factor is not None:
            result = writer("Mul", found.factor, result, kind=_KIND)
        output = found.last.outputs[0]
        names.append(found.last.name or output.name or "")
        ir.convenience.replace_nodes_and_values(model.graph, found.last, [found.last], [], [output], [result])
    if names:
        common.RemoveUnusedNodesPass()(model)
    return names


def _found(node: ir.Node) -> _Found | None:
    """Return the hard sigmoid whose upper bound is set by `node`."""
    clamped = _clamped(node)
    user = None if clamped is None else only_user(node.outputs[0])
    if clamped is None or user is None:
        return None
    value, high = clamped
    last, given, factor = user, node.outputs[0], None
    if _factor(user, given) is None and user.op_type == "Mul":
        behind, given, factor = only_user(user.outputs[0]), user.outputs[0], _other(user, given)
        if behind is None:
            return None
        last = behind
    scaled = _factor(last, given)
    if scaled is None or abs(scaled * high - 1) > _CLOSE or any(n.graph is not node.graph for n in (user, last)):
        return None
    source, scale, shift = _affine(value, factor)
    return _Found(source, scale / high, shift / high, last, factor)


def _clamped(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Return the value that `node` bounds from above, if zero is its lower bound, and the upper bound."""
    if node.domain or not node.outputs or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Clip":
        low, high = _bound(node, 1, "min"), _bound(node, 2, "max")
        return (node.inputs[0], high) if low == 0 and high is not None and high > 0 else None
    if node.op_type != "Min" or len(node.inputs) != 2:
        return None
    for place in (0, 1):
        value, high = node.inputs[1 - place], scalar_of(node.inputs[place])
        source = None if value is None or high is None else _above_zero(value)
        if source is not None and high is not None and high > 0:
            return source, high
    return None


def _above_zero(value: ir.Value) -> ir.Value | None:
    node = value.producer()
    if node is None or node.domain or only_user(value) is None:
        return None
    if node.op_type == "Relu":
        return node.inputs[0]
    if node.op_type != "Max" or len(node.inputs) != 2:
        return None
    return next((node.inputs[1 - place] for place in (0, 1) if scalar_of(node.inputs[place]) == 0), None)


def _bound(node: ir.Node, place: int, name: str) -> float | None:
    """Return a bound of a Clip, an attribute before opset 11; None for a computed one, or none."""
    if name in node.attributes:
        return node.attributes.get_float(name)
    return scalar_of(node.inputs[place]) if len(node.inputs) > place else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _factor(node: ir.Node, value: ir.Value) -> float | None:
    """Return the constant by which `node` multiplies `value`; None if it does something else."""
    if node.domain or node.op_type not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    number = scalar_of(_other(node, value))
    if node.op_type == "Mul":
        return number
    return 1 / number if number and node.inputs[0] is value else None


def _affine(value: ir.Value, stop: ir.Value | None) -> tuple[ir.Value, float, float]:
    """Return the source, scale and shift of a value, through operators with a constant that it alone reads."""
    scale, shift = 1.0, 0.0
    while value is not stop and only_user(value) is not None:
        node = value.producer()
        source = None if node is None or node.domain or len(node.inputs) != 2 else _computed(node)
        if node is None or source is None:
            break
        factor = _factor(node, source)
        number = scalar_of(_other(node, source))
        if factor is not None:
            scale *= factor
        elif number is not None and (node.op_type == "Add" or (node.op_type == "Sub" and node.inputs[0] is source)):
            shift += scale * (number if node.op_type == "Add" else -number)
        else:
            break
        value = source
    return value, scale, shift


def _computed(node: ir.Node) -> ir.Value | None:
    """Return the input of a binary operator that is no constant, if the other is one."""
    first, second = node.inputs
    if scalar_of(second) is not None:
        return first
    return second if scalar_of(first) is not None else None
