"""Quantized values as floats that stand on the grid, so that a gradient passes straight through the rounding.

Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013. Where scales are weights their
gradient is that of Esser et al., "Learned step size quantization", ICLR 2020: it follows from the same rounding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site


def _beside(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return per-channel values in the shape that broadcasts along `axis`."""
    if values.numel() == 1:
        return values.reshape(())
    if values.dim() > 1:
        raise ValueError("blocks")
    return values.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def _quantize(site: Site) -> Apply:
    axis, zero = site.get("axis", 1), site.constant(2)
    if site.get("block_size", 0) or (zero is None and len(site.constants) > 2):
        raise site.refuse("its scale is per block, or its zero point is computed")
    kind = torch.uint8 if zero is None else zero.dtype
    if kind.is_floating_point:
        raise site.refuse("it quantizes to a float type")
    low, high = torch.iinfo(kind).min, torch.iinfo(kind).max

    def quantize(x: Tensor, scale: Tensor, point: Tensor | None = None) -> Tensor:
        shift = 0.0 if point is None else _beside(point, x, axis).to(x.dtype)
        steps = x / _beside(scale, x, axis)
        # Outside the grid there is no gradient, on it that of the identity.
        smooth = (steps + shift).clamp(low, high)
        return smooth + ((steps.round() + shift).clamp(low, high) - smooth).detach()

    return quantize


def _dequantize(site: Site) -> Apply:
    axis = site.get("axis", 1)
    if site.get("block_size", 0):
        raise site.refuse("its scale is per block")

    def dequantize(x: Tensor, scale: Tensor, point: Tensor | None = None) -> Tensor:
        values = x.to(scale.dtype)
        if point is not None:
            values = values - _beside(point, x, axis).to(scale.dtype)
        return values * _beside(scale, x, axis)

    return dequantize


RULES: Mapping[str, Rule] = {"DequantizeLinear": Rule(_dequantize), "QuantizeLinear": Rule(_quantize)}
