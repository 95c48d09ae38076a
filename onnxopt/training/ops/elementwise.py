"""Arithmetic, comparisons, logic and casts, element by element."""

from collections.abc import Callable, Mapping
from functools import reduce

import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.training.ops.convert import DTYPES
from onnxopt.training.ops.rule import Apply, Rule, Site, plain


def _divide(site: Site) -> Apply:
    def divide(a: Tensor, b: Tensor) -> Tensor:
        return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")

    return divide


def _power(site: Site) -> Apply:
    exponent = site.constant(1)
    if exponent is not None and exponent.numel() == 1 and exponent.dim() == 0:
        number = exponent.item()
        return lambda x, _: x.pow(number).to(x.dtype)
    # An exponent of another type must not change that of the result.
    return lambda x, y: torch.pow(x, y).to(x.dtype)


def _modulo(site: Site) -> Apply:
    function: Apply = torch.fmod if site.get("fmod", 0) else torch.remainder
    return function


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return plain(lambda *inputs: reduce(function, inputs))


def _mean(*inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs) / len(inputs)


def _clip(site: Site) -> Apply:
    if site.version < 11:
        low, high = site.get("min"), site.get("max")
        return lambda x: x.clamp(low, high)
    bounds = [None if value is None else value.item() for value in (site.constant(1), site.constant(2))]
    if all(known is not None or slot >= len(site.constants) for slot, known in enumerate(bounds, 1)):
        low, high = bounds
        if low is None and high is None:
            return lambda x, *_: x
        return lambda x, *_: x.clamp(low, high)

    def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)

    return clip


def _cast(site: Site) -> Apply:
    kind = ir.DataType(site.get("to"))
    if kind not in DTYPES:
        raise site.refuse(f"there is no {kind.name} in torch")
    dtype = DTYPES[kind]
    return lambda x: x.to(dtype)


def _is_inf(site: Site) -> Apply:
    up, down = bool(site.get("detect_positive", 1)), bool(site.get("detect_negative", 1))
    return lambda x: torch.isinf(x) & ((x > 0) & up | (x < 0) & down)


def _affine(site: Site) -> Apply:
    alpha, beta = site.get("alpha", 1.0), site.get("beta", 0.0)
    return lambda x: alpha * x + beta


RULES: Mapping[str, Rule] = {
    **{
        op: plain(getattr(torch, op.lower()))
        for op in ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp")
    },
    **{
        op: plain(getattr(torch, op.lower()))
        for op in ("Floor", "IsNaN", "Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan")
    },
    "Add": plain(torch.add),
    "Affine": Rule(_affine),
    "And": plain(torch.logical_and),
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseNot": plain(torch.bitwise_not),
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "Cast": Rule(_cast),
    "CastLike": plain(lambda x, like: x.to(like.dtype)),
    "Clip": Rule(_clip),
    "Div": Rule(_divide),
    "Equal": plain(torch.eq),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "IsInf": Rule(_is_inf),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Max": _variadic(torch.maximum),
    "Mean": plain(_mean),
    "Min": _variadic(torch.minimum),
    "Mod": Rule(_modulo),
    "Mul": plain(torch.mul),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "Pow": Rule(_power),
    "Sub": plain(torch.sub),
    "Sum": _variadic(torch.add),
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
