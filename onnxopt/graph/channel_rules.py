"""How labels pass through every operator: elementwise ones, normalizations, pooling and reductions are here."""

from collections.abc import Mapping
from types import MappingProxyType

import onnx_ir as ir

from onnxopt.graph.channel_labels import Axes
from onnxopt.graph.channel_layers import LAYERS
from onnxopt.graph.channel_moves import MOVES
from onnxopt.graph.channel_node import broadcast, freeze_rest, integer, operand, optional, why
from onnxopt.graph.channel_trace import Frozen, Rule, Trace

_ELEMENTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal "
    "Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual "
    "Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare ArgMax ArgMin"
)


def _elementwise(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    if "broadcast" in node.attributes:
        raise Frozen(why(node, "broadcasts as opset 6 does"))
    operands = [(trace.of(v), trace.shape(v)) for v in node.inputs if v is not None]
    if node.op_type == "Dropout":
        operands = operands[:1]
    axes = broadcast(trace, node, operands)
    return tuple(axes for _ in node.outputs)


def _along(default: int) -> Rule:
    """Return the rule of what mixes the positions of one axis and treats the others alike."""

    def rule(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
        value = operand(node, 0)
        axes, rank = trace.of(value), len(trace.shape(value))
        old = node.op_type.endswith("max") and trace.model.opset_imports.get("", 1) < 13
        given = trace.known(optional(node, 1))
        axis = int(given.reshape(-1)[0]) if given is not None else integer(node, "axis", 1 if old else default)
        if node.op_type == "CumSum" and given is None:
            raise Frozen(why(node, "sums along a computed axis"))
        axis %= max(rank, 1)
        mixed = range(axis, rank) if old else (axis,)
        for i in mixed:
            trace.labels.freeze(axes[i], why(node, "mixes its positions"))
        return (tuple(None if i in mixed else v for i, v in enumerate(axes)),)

    return rule


def _norm_from(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(operand(node, 0))
    start = integer(node, "axis", -1) % len(axes)
    for value in node.inputs[1:]:
        trace.freeze(value, why(node, "normalizes over it"))
    for vector in axes[start:]:
        trace.labels.freeze(vector, why(node, "normalizes over it"))
    kept = tuple(v if i < start else None for i, v in enumerate(axes))
    return (kept,)


def _per_channel(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow normalizations with one set of parameters per channel."""
    axes = trace.of(operand(node, 0))
    if len([v for v in node.outputs if v.uses() or v.is_graph_output()]) > 1:
        raise Frozen(why(node, "trains its statistics"))
    if len(axes) < 2:
        raise Frozen(why(node, "has no channel axis"))
    vectors = [axes[1], *(trace.of(v)[0] for v in node.inputs[1:] if v is not None)]
    joined = trace.labels.same(vectors, why(node, "joins it with what cannot be cut"))
    if node.op_type == "InstanceNormalization":
        freeze_rest(trace, axes, (0, 1), why(node, "normalizes over it"))
        return ((axes[0], joined, *(None for _ in axes[2:])),)
    return ((axes[0], joined, *axes[2:]),)


def _pool(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(operand(node, 0))
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        raise Frozen(why(node, "gives indices"))
    freeze_rest(trace, axes, (0, 1), why(node, "slides over it"))
    return ((*axes[:2], *(None for _ in axes[2:])),)


def _reduction(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    value = operand(node, 0)
    axes, rank = trace.of(value), len(trace.shape(value))
    if node.op_type in ("ArgMax", "ArgMin"):
        reduced = [integer(node, "axis", 0) % rank]
    elif "axes" in node.attributes:
        reduced = [a % rank for a in node.attributes["axes"].as_ints()]
    elif optional(node, 1) is not None:
        given = trace.known(node.inputs[1])
        if given is None:
            raise Frozen(why(node, "reduces over computed axes"))
        reduced = [int(a) % rank for a in given.reshape(-1)]
    else:
        reduced = []
    if not reduced:
        reduced = [] if integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    for axis in reduced:
        if node.op_type == "ReduceSum":
            trace.consume(value, axis, axes[axis])
        else:
            trace.labels.freeze(axes[axis], why(node, "reduces over it"))
    if integer(node, "keepdims", 1):
        return (tuple(None if i in reduced else v for i, v in enumerate(axes)),)
    return (tuple(v for i, v in enumerate(axes) if i not in reduced),)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
        **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _along(-1)),
        **dict.fromkeys(("LpNormalization", "CumSum"), _along(-1)),
        **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _norm_from),
        **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _per_channel),
        **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
        **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), _pool),
        **dict.fromkeys(_REDUCTIONS.split(), _reduction),
        **LAYERS,
        **MOVES,
    }
)
"""Every operator that labels can be followed through; any other freezes what it reads."""
