"""Every rule by operator set and operator."""

from collections.abc import Mapping
from types import MappingProxyType

from onnxopt.training.ops import (
    activations,
    attention,
    elementwise,
    gather,
    linear,
    movement,
    norms,
    pad,
    pooling,
    quantize,
    recurrent,
    reductions,
    resize,
    shape,
    tabular,
)
from onnxopt.training.ops.rule import Rule

_STANDARD = (
    *(module.RULES for module in (activations, attention, elementwise, gather, linear, movement, norms, pad, pooling)),
    *(module.RULES for module in (quantize, recurrent, reductions, resize, shape)),
    tabular.STANDARD,
)
_CONTRIB = (activations.CONTRIB, linear.CONTRIB, norms.CONTRIB)

RULES: Mapping[tuple[str, str], Rule] = MappingProxyType(
    {
        **{("", op): rule for table in _STANDARD for op, rule in table.items()},
        **{("ai.onnx.ml", op): rule for op, rule in tabular.RULES.items()},
        **{("com.microsoft", op): rule for table in _CONTRIB for op, rule in table.items()},
    }
)
"""Keyed by (domain, op type); the standard operator set is the domain ''."""
