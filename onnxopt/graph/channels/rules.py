"""The table of label rules; elementwise operators, pooling and reductions are here."""

from collections.abc import Mapping
from types import MappingProxyType

import onnx_ir as ir

from onnxopt.graph.channels.attention import ATTENTION
from onnxopt.graph.channels.labels import Axes
from onnxopt.graph.channels.layers import LAYERS
from onnxopt.graph.channels.moves import MOVES
from onnxopt.graph.channels.node import broadcast, freeze_rest, operand, optional, why
from onnxopt.graph.channels.norms import NORMS
from onnxopt.graph.channels.recurrent import RECURRENT
from onnxopt.graph.channels.trace import Frozen, Rule, Trace

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

_ZEROS_DO_NOTHING = ("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2")


def _elementwise(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    if "broadcast" in node.attributes:
        raise Frozen(why(node, "broadcasts by the rules of opset 6"))
    operands = [(trace.of(v), trace.shape(v)) for v in node.inputs if v is not None]
    if node.op_type == "Dropout":
        operands = operands[:1]
    axes = broadcast(trace, node, operands)
    return (axes,)


def _along(default: int) -> Rule:
    """Return the rule of operators that mix the positions of one axis and treat the other axes position by position."""

    def rule(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
        value = operand(node, 0)
        axes, rank = trace.of(value), len(trace.shape(value))
        old = node.op_type.endswith("max") and trace.model.opset_imports.get("", 1) < 13
        given = trace.known(optional(node, 1))
        axis = (
            int(given.reshape(-1)[0]) if given is not None else node.attributes.get_int("axis", 1 if old else default)
        )
        if node.op_type == "CumSum" and given is None:
            raise Frozen(why(node, "sums along a computed axis"))
        axis %= max(rank, 1)
        mixed = range(axis, rank) if old else (axis,)
        for i in mixed:
            trace.labels.freeze(axes[i], why(node, "mixes its positions"))
        return (tuple(None if i in mixed else v for i, v in enumerate(axes)),)

    return rule


def _sampled(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow an operator that samples images at computed coordinates."""
    axes = trace.of(operand(node, 0))
    freeze_rest(trace, axes, (0, 1), why(node, "samples it"))
    for value in node.inputs[1:]:
        trace.freeze(value, why(node, "reads it as coordinates"))
    rank = len(trace.shape(node.outputs[0]))
    first = axes[0] if node.op_type == "GridSample" else None
    if first is None:
        trace.labels.freeze(axes[0], why(node, "picks images"))
    return ((first, axes[1], *(None for _ in range(rank - 2))),)


def _pool(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(operand(node, 0))
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        raise Frozen(why(node, "returns indices"))
    freeze_rest(trace, axes, (0, 1), why(node, "slides over it"))
    return ((*axes[:2], *(None for _ in axes[2:])),)


def reduced_axes(trace: Trace, node: ir.Node) -> list[int]:
    """Return the axes that a reduction reduces.

    Raises:
        Frozen: the axes are computed.
    """
    rank = len(trace.shape(operand(node, 0)))
    if node.op_type in ("ArgMax", "ArgMin"):
        return [node.attributes.get_int("axis", 0) % rank]
    listed: list[int] = []
    if "axes" in node.attributes:
        listed = [a % rank for a in node.attributes["axes"].as_ints()]
    elif optional(node, 1) is not None:
        given = trace.known(node.inputs[1])
        if given is None:
            raise Frozen(why(node, "reduces over computed axes"))
        listed = [int(a) % rank for a in given.reshape(-1)]
    return listed or ([] if node.attributes.get_int("noop_with_empty_axes", 0) else list(range(rank)))


def _centres(node: ir.Node) -> bool:
    """Return whether a mean is subtracted from its own input: this shifts zeros, but not positions that are removed."""
    return any(user.op_type == "Sub" and node.inputs[0] in user.inputs for user, _ in node.outputs[0].uses())


def _reduction(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    value = operand(node, 0)
    axes, reduced = trace.of(value), reduced_axes(trace, node)
    exact = node.op_type in _ZEROS_DO_NOTHING or (node.op_type == "ReduceMean" and not _centres(node))
    for axis in reduced:
        if exact:
            trace.consume(value, axis, axes[axis])
        else:
            trace.labels.freeze(axes[axis], why(node, "reduces over it"))
    if node.attributes.get_int("keepdims", 1):
        return (tuple(None if i in reduced else v for i, v in enumerate(axes)),)
    return (tuple(v for i, v in enumerate(axes) if i not in reduced),)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
        **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _along(-1)),
        "CumSum": _along(-1),
        **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
        **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), _pool),
        **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool"), _sampled),
        **dict.fromkeys(_REDUCTIONS.split(), _reduction),
        **NORMS,
        **LAYERS,
        **RECURRENT,
        **ATTENTION,
        **MOVES,
    }
)
"""Every operator with a label rule; any other operator freezes its inputs."""
