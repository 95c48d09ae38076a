"""Linear layers as matrices: input rows of a convolution or product, and writing its weights back."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.reconstruction.unfold import Window, unfold

_CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class LinearLayer:
    """A node y = W x + b whose weight is an initializer that no other node reads.

    Attributes:
        node: name of the node; `x` and `y` are its input and output, `weight` and `bias` its initializers.
        side: whether the weight of a product is its right or left operand.
        weight_axis: axis of the initializer along which the inputs run.
        bias: name of the bias; None without one. With `bias_follows` it belongs to the Add that follows.
        window: window of a convolution.
        scale: factor of a Gemm's product; `bias_scale` is the factor of its bias.
        groups: groups of a convolution; its matrix has the inputs of one group.
    """

    node: str
    x: str
    y: str
    weight: str
    weight_axis: int
    out_axis: int
    bias: str | None
    side: str = "right"
    window: Window | None = None
    scale: float = 1.0
    bias_scale: float = 1.0
    bias_follows: bool = False
    groups: int = 1

    def matrix(self, array: np.ndarray) -> np.ndarray:
        """Return the weights as float64 (outputs, inputs * kernel positions), so that y = rows @ matrix.T."""
        moved = np.moveaxis(array, (self.out_axis, self.weight_axis), (0, 1)).astype(np.float64)
        if self.window is not None and self.window.transposed:
            moved = np.flip(moved, axis=tuple(range(2, moved.ndim)))
        return self.scale * moved.reshape(moved.shape[0], -1)

    def array(self, matrix: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Return `matrix` in the layout and type of the initializer `like`."""
        moved_shape = np.moveaxis(like, (self.out_axis, self.weight_axis), (0, 1)).shape
        moved = (matrix / self.scale).reshape(moved_shape)
        if self.window is not None and self.window.transposed:
            moved = np.flip(moved, axis=tuple(range(2, moved.ndim)))
        return np.moveaxis(moved, (0, 1), (self.out_axis, self.weight_axis)).astype(like.dtype)

    def rows(self, x: np.ndarray, y: np.ndarray, limit: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `limit` rows of inputs (rows, inputs * kernel positions) and outputs (rows, outputs)."""
        if self.window is not None:
            return unfold(self.window, x, y, limit, seed)
        if self.side == "left":
            x, y = np.swapaxes(x, -1, -2), np.swapaxes(y, -1, -2)
        ins, outs = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        if len(ins) > limit:
            chosen = np.sort(np.random.default_rng(seed).choice(len(ins), limit, replace=False))
            ins, outs = ins[chosen], outs[chosen]
        return ins, outs


def linear_layers(model: ir.Model, *, grouped: bool = False) -> dict[str, LinearLayer]:
    """Return the linear layers of the main graph by node name, in graph order; `grouped` adds grouped convolutions."""
    found = dict[str, LinearLayer]()
    for node in model.graph:
        layer = linear_layer(model, node, grouped=grouped)
        if layer is not None:
            found[layer.node] = layer
    return found


def linear_layer(model: ir.Model, node: ir.Node, *, grouped: bool = False) -> LinearLayer | None:
    """Return a node as a linear layer; None if it is none, or its weights have other readers."""
    if node.domain or not node.name:
        return None
    if node.op_type in _CONVOLUTIONS:
        return _convolution(model, node, grouped and node.op_type == "Conv")
    if node.op_type in ("Gemm", "MatMul"):
        return _product(model, node)
    return None


def _own(model: ir.Model, node: ir.Node, slot: int) -> ir.Value | None:
    """Return the float initializer that only this node reads at `slot`."""
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None or value.name not in model.graph.initializers or value.is_graph_input() or value.is_graph_output():
        return None
    tensor = value.const_value
    floating = tensor is not None and tensor.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
    return value if floating and len(value.uses()) == 1 else None


def _convolution(model: ir.Model, node: ir.Node, grouped: bool) -> LinearLayer | None:
    weight, x = _own(model, node, 1), node.inputs[0]
    group = node.attributes.get_int("group", 1)
    if weight is None or weight.const_value is None or x is None or (group != 1 and not grouped):
        return None
    bias = _own(model, node, 2)
    if len(node.inputs) > 2 and node.inputs[2] is not None and bias is None:
        return None
    transposed = node.op_type == "ConvTranspose"
    window = Window.of(node, tuple(int(d) for d in weight.const_value.shape.numpy()[2:]), transposed)
    if window is None:
        return None
    axes = (0, 1) if transposed else (1, 0)
    return LinearLayer(
        node.name or "",
        x.name or "",
        node.outputs[0].name or "",
        weight.name or "",
        *axes,
        bias.name if bias is not None else None,
        window=window,
        groups=group,
    )


def _product(model: ir.Model, node: ir.Node) -> LinearLayer | None:
    flag = {k: a.as_int() for k, a in node.attributes.items() if k in ("transA", "transB")}
    scale = {k: a.as_float() for k, a in node.attributes.items() if k in ("alpha", "beta")}
    if flag.get("transA") or any(factor == 0 or not math.isfinite(factor) for factor in scale.values()):
        return None
    for slot in (1, 0):
        weight, x = _own(model, node, slot), node.inputs[1 - slot]
        if weight is None or weight.const_value is None or x is None or len(weight.const_value.shape) != 2:
            continue
        if slot == 0 and node.op_type == "Gemm":
            continue
        turned = bool(flag.get("transB")) != (slot == 0)
        axes = (1, 0) if turned else (0, 1)
        outputs = int(weight.const_value.shape.numpy()[axes[1]])
        y, bias, has_bias = node.outputs[0], None, False
        if node.op_type == "Gemm":
            bias, has_bias = _own(model, node, 2), len(node.inputs) > 2 and node.inputs[2] is not None
            if has_bias and (bias is None or not _is_per_output(bias, outputs)):
                return None
        else:
            bias = _following_bias(model, node, outputs, left=slot == 0)
            # A vector on the right of the weight has no columns that could become rows.
            if slot == 0 and (x.shape is None or len(x.shape) < 2):
                return None
        return LinearLayer(
            node.name or "",
            x.name or "",
            y.name or "",
            weight.name or "",
            *axes,
            bias.name if bias is not None else None,
            side="right" if slot == 1 else "left",
            scale=scale.get("alpha", 1.0),
            bias_scale=scale.get("beta", 1.0),
            bias_follows=node.op_type == "MatMul" and bias is not None,
        )
    return None


def _is_per_output(bias: ir.Value, outputs: int, left: bool = False) -> bool:
    """Return whether a bias has one number per output, along its last axis; its last but one if the weight is left."""
    shape = tuple(int(d) for d in bias.const_value.shape.numpy()) if bias.const_value is not None else ()
    ending = (outputs, 1) if left else (outputs,)
    return shape[-len(ending) :] == ending and all(d == 1 for d in shape[: -len(ending)])


def _following_bias(model: ir.Model, node: ir.Node, outputs: int, left: bool) -> ir.Value | None:
    """Return the bias of the Add that is the only reader of a product."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    add, slot = uses[0]
    if add.op_type != "Add" or add.domain or add.graph is not node.graph:
        return None
    bias = _own(model, add, 1 - slot)
    return bias if bias is not None and _is_per_output(bias, outputs, left) else None
