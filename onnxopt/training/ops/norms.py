"""Normalizations."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site


def _batch_norm(site: Site) -> Apply:
    epsilon, momentum = site.get("epsilon", 1e-5), 1 - site.get("momentum", 0.9)
    if site.get("training_mode", 0) or site.outputs > 1:
        raise site.refuse("it was exported in training mode")
    trains = site.trains_batch_norm

    def norm(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, bias, trains, momentum, epsilon)

    return norm


def _instance_norm(site: Site) -> Apply:
    epsilon = site.get("epsilon", 1e-5)

    def norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        # As groups of one channel: torch refuses an instance of a single element otherwise.
        return F.group_norm(x, x.shape[1], scale, bias, epsilon)

    return norm


def _layer_norm(site: Site) -> Apply:
    epsilon, axis = site.get("epsilon", 1e-5), site.get("axis", -1)
    if site.outputs > 1:
        raise site.refuse("it returns its statistics")

    def norm(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis % x.dim() :]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return F.layer_norm(x, shape, scale, bias, epsilon)
        normed = F.layer_norm(x, shape, None, None, epsilon) * scale
        return normed if bias is None else normed + bias

    return norm


def _group_norm(site: Site) -> Apply:
    epsilon, groups = site.get("epsilon", 1e-5), site.get("num_groups")

    def norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if site.version < 21:  # one scale per group
            scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
        return F.group_norm(x, groups, scale, bias, epsilon)

    return norm


def _rms_norm(site: Site) -> Apply:
    epsilon, axis = site.get("epsilon", 1e-5), site.get("axis", -1)

    def norm(x: Tensor, scale: Tensor) -> Tensor:
        over = tuple(range(axis % x.dim(), x.dim()))
        return x * torch.rsqrt(x.square().mean(over, keepdim=True) + epsilon) * scale

    return norm


def _lrn(site: Site) -> Apply:
    size, alpha, beta, bias = site.get("size"), site.get("alpha", 1e-4), site.get("beta", 0.75), site.get("bias", 1.0)

    def norm(x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], 1, x.shape[1], -1).square()
        around = F.pad(flat, (0, 0, (size - 1) // 2, size // 2))
        sums = F.avg_pool2d(around, (size, 1), 1) * size
        return x / (bias + alpha / size * sums.reshape(x.shape)).pow(beta)

    return norm


def _lp_norm(site: Site) -> Apply:
    axis, power = site.get("axis", -1), site.get("p", 2)
    return lambda x: x / torch.linalg.vector_norm(x, power, axis, keepdim=True).clamp_min(1e-12)


def _mean_variance(site: Site) -> Apply:
    axes = tuple(site.get("axes", (0, 2, 3)))

    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return norm


def _skip_layer_norm(site: Site) -> Apply:
    """Sum, then normalize: fused by ONNX Runtime's transformer optimizer."""
    epsilon = site.get("epsilon", 1e-12)

    def norm(x: Tensor, skip: Tensor, scale: Tensor, beta: Tensor | None = None, bias: Tensor | None = None) -> Any:
        total = x + skip if bias is None else x + skip + bias
        normed = F.layer_norm(total, (prod(scale.shape),), scale, beta, epsilon)
        return normed if site.outputs == 1 else (normed, None, None, total)[: site.outputs]

    return norm


RULES: Mapping[str, Rule] = {
    "BatchNormalization": Rule(_batch_norm),
    "GroupNormalization": Rule(_group_norm),
    "InstanceNormalization": Rule(_instance_norm),
    "LRN": Rule(_lrn),
    "LayerNormalization": Rule(_layer_norm),
    "LpNormalization": Rule(_lp_norm),
    "MeanVarianceNormalization": Rule(_mean_variance),
    "RMSNormalization": Rule(_rms_norm),
}

CONTRIB: Mapping[str, Rule] = {"SkipLayerNormalization": Rule(_skip_layer_norm)}
