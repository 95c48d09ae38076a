"""Layers that can be factorized, and the reasons against the others."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.reconstruction.layers import LinearLayer, linear_layers
from onnxopt.reconstruction.scan_layers import with_bodies

MOST_OUTPUTS = 4096
"""Most outputs with a covariance: 130 MB in double precision."""
_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def reducible(
    model: ir.Model,
    exclude: Collection[str],
    *,
    observed: bool,
    grouped: bool = False,
    inner: Mapping[str, LinearLayer] | None = None,
) -> tuple[dict[str, LinearLayer], dict[str, str]]:
    """Return the reducible layers by node, in graph order, and the reasons for the others.

    Args:
        model: a model with named nodes.
        exclude: names of nodes to skip.
        observed: whether the covariance of their outputs is needed.
        grouped: whether grouped convolutions may be reduced group by group.
        inner: reducible layers in the bodies of Scan nodes; None reduces none there.
    """
    linear, found, refused = linear_layers(model, grouped=grouped), dict[str, LinearLayer](), dict[str, str]()
    nodes = model.graph if inner is None else [node for _, node in with_bodies(model)]
    for node in nodes:
        if node.domain or node.op_type not in _OPERATORS:
            continue
        name = node.name or ""
        layer = (inner or {}).get(name) or linear.get(name)
        reason = "excluded by name" if name in exclude else _obstacle(model, node, layer, observed, grouped)
        if reason or layer is None:
            refused[name] = reason
        else:
            found[name] = layer
    return found, refused


def _obstacle(model: ir.Model, node: ir.Node, layer: LinearLayer | None, observed: bool, grouped: bool) -> str:
    group = node.attributes.get_int("group", 1)
    if group > 1 and not grouped:
        return "its channels are in groups, each with few weights already"
    if node.op_type == "ConvTranspose":
        return "a transposed convolution has no form here"
    if layer is None:
        if not any(v is not None and v.name in model.graph.initializers for v in node.inputs[:2]):
            return "it has no constant weight"
        return "its weight or bias is shared, computed, or in a form that is not followed"
    tensor = model.graph.initializers[layer.weight].const_value
    if tensor is not None and not np.isfinite(np.asarray(tensor.numpy(), np.float32)).all():
        return "its weight has values that are not finite"  # their decomposition would not end
    if group > 1 and tensor is not None and min(int(tensor.shape.numpy()[0]) // group, *tensor.shape.numpy()[1:2]) == 1:
        return "each of its channels is a separate group"
    if observed and tensor is not None and int(tensor.shape.numpy()[layer.out_axis]) > MOST_OUTPUTS:
        return f"more than {MOST_OUTPUTS} outputs: their covariance would take too much memory"
    return ""
