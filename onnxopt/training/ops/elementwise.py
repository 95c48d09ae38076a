"""Arithmetic, comparisons, logic and casts, element by element."""

from collections.abc import Callable, Mapping
from functools import reduce

import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.training.ops.convert import DTYPES
from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands


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
    return as_it_stands(lambda *inputs: reduce(function, inputs))


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
        op: as_it_stands(getattr(torch, op.lower()))
        for op in ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp")
    },
    **{
        op: as_it_stands(getattr(torch, op.lower()))
        for op in ("Floor", "IsNaN", "Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan")
    },
    "Add": as_it_stands(torch.add),
    "Affine": Rule(_affine),
    "And": as_it_stands(torch.logical_and),
    "BitwiseAnd": as_it_stands(torch.bitwise_and),
    "BitwiseNot": as_it_stands(torch.bitwise_not),
    "BitwiseOr": as_it_stands(torch.bitwise_or),
    "BitwiseXor": as_it_stands(torch.bitwise_xor),
    "Cast": Rule(_cast),
    "CastLike": as_it_stands(lambda x, like: x.to(like.dtype)),
    "Clip": Rule(_clip),
    "Div": Rule(_divide),
    "Equal": as_it_stands(torch.eq),
    "Greater": as_it_stands(torch.gt),
    "GreaterOrEqual": as_it_stands(torch.ge),
    "IsInf": Rule(_is_inf),
    "Less": as_it_stands(torch.lt),
    "LessOrEqual": as_it_stands(torch.le),
    "Max": _variadic(torch.maximum),
    "Mean": as_it_stands(_mean),
    "Min": _variadic(torch.minimum),
    "Mod": Rule(_modulo),
    "Mul": as_it_stands(torch.mul),
    "Not": as_it_stands(torch.logical_not),
    "Or": as_it_stands(torch.logical_or),
    "Pow": Rule(_power),
    "Sub": as_it_stands(torch.sub),
    "Sum": _variadic(torch.add),
    "Where": as_it_stands(torch.where),
    "Xor": as_it_stands(torch.logical_xor),
}
