"""Activation functions."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands


def _leaky(site: Site) -> Apply:
    alpha = site.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


def _elu(site: Site) -> Apply:
    alpha = site.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def _celu(site: Site) -> Apply:
    alpha = site.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


def _selu(site: Site) -> Apply:
    alpha, gamma = site.get("alpha", 1.67326319217681884765625), site.get("gamma", 1.05070102214813232421875)
    return lambda x: gamma * F.elu(x, alpha)


def _thresholded(site: Site) -> Apply:
    alpha = site.get("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


def _shrink(site: Site) -> Apply:
    bias, limit = site.get("bias", 0.0), site.get("lambd", 0.5)
    return lambda x: torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


def _hard_sigmoid(site: Site) -> Apply:
    alpha, beta = site.get("alpha", 0.2), site.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid
    return lambda x: (alpha * x + beta).clamp(0.0, 1.0)


def _gelu(site: Site) -> Apply:
    kind = site.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=kind)


def _swish(site: Site) -> Apply:
    alpha = site.get("alpha", 1.0)
    return F.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


def _quick_gelu(site: Site) -> Apply:
    alpha = site.get("alpha", 1.702)
    return lambda x: x * torch.sigmoid(alpha * x)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _axis_wise(function: Apply) -> Rule:
    """Return the rule of a function along one axis; before version 13, along all from that axis on."""

    def build(site: Site) -> Apply:
        if site.version >= 13:
            axis = site.get("axis", -1)
            return lambda x: function(x, axis)
        start = site.get("axis", 1)

        def flat(x: Tensor) -> Tensor:
            first = start % max(x.dim(), 1)
            return function(x.flatten(first), -1).reshape(x.shape) if first < x.dim() - 1 else function(x, -1)

        return flat

    return Rule(build)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


RULES: Mapping[str, Rule] = {
    "Celu": Rule(_celu),
    "Elu": Rule(_elu),
    "Gelu": Rule(_gelu),
    "HardSigmoid": Rule(_hard_sigmoid),
    "HardSwish": as_it_stands(F.hardswish),
    "Hardmax": _axis_wise(_hardmax),
    "LeakyRelu": Rule(_leaky),
    "LogSoftmax": _axis_wise(torch.log_softmax),
    "Mish": as_it_stands(F.mish),
    "PRelu": as_it_stands(_prelu),
    "Relu": as_it_stands(torch.relu),
    "Selu": Rule(_selu),
    "Shrink": Rule(_shrink),
    "Sigmoid": as_it_stands(torch.sigmoid),
    "Softmax": _axis_wise(torch.softmax),
    "Softplus": as_it_stands(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "Softsign": as_it_stands(F.softsign),
    "Swish": Rule(_swish),
    "Tanh": as_it_stands(torch.tanh),
    "ThresholdedRelu": Rule(_thresholded),
}

CONTRIB: Mapping[str, Rule] = {
    "BiasGelu": as_it_stands(lambda x, bias: F.gelu(x + bias)),
    "FastGelu": as_it_stands(lambda x, bias=None: F.gelu(x if bias is None else x + bias, approximate="tanh")),
    "Gelu": as_it_stands(F.gelu),
    "QuickGelu": Rule(_quick_gelu),
}
"""Of ONNX Runtime's own operator set."""
