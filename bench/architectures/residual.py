"""Residual networks: whatever is added shares its channels."""

import torch
from torch import Tensor, nn

from architectures.blocks import Residual, SqueezeExcite, classifier, conv_bn


def _basic(ins: int, outs: int, stride: int) -> nn.Module:
    body = nn.Sequential(conv_bn(ins, outs, 3, stride), conv_bn(outs, outs, activation=nn.Identity))
    return Residual(body, _shortcut(ins, outs, stride), nn.ReLU())


def _bottleneck(ins: int, inner: int, outs: int, stride: int, groups: int = 1, squeeze: int = 0) -> nn.Module:
    parts = [conv_bn(ins, inner, 1), conv_bn(inner, inner, 3, stride, groups)]
    if squeeze:
        parts.append(SqueezeExcite(inner, squeeze))
    body = nn.Sequential(*parts, conv_bn(inner, outs, 1, activation=nn.Identity))
    return Residual(body, _shortcut(ins, outs, stride), nn.ReLU())


def _shortcut(ins: int, outs: int, stride: int) -> nn.Module | None:
    return None if ins == outs and stride == 1 else conv_bn(ins, outs, 1, stride, activation=nn.Identity)


def resnet_basic() -> nn.Module:
    """He et al., CVPR 2016."""
    blocks = [_basic(32, 32, 1), _basic(32, 64, 2), _basic(64, 64, 1), _basic(64, 128, 2)]
    return nn.Sequential(conv_bn(3, 32), *blocks, classifier(128))


def resnet_bottleneck() -> nn.Module:
    """He et al., CVPR 2016."""
    blocks = [_bottleneck(32, 32, 128, 1), _bottleneck(128, 32, 128, 1), _bottleneck(128, 64, 256, 2)]
    return nn.Sequential(conv_bn(3, 32), nn.MaxPool2d(3, 2, 1), *blocks, classifier(256))


def resnext() -> nn.Module:
    """Xie et al., CVPR 2017: eight groups in the middle of each block."""
    blocks = [_bottleneck(32, 64, 128, 1, 8), _bottleneck(128, 64, 128, 1, 8), _bottleneck(128, 128, 256, 2, 8)]
    return nn.Sequential(conv_bn(3, 32), *blocks, classifier(256))


def regnet() -> nn.Module:
    """RegNetY: Radosavovic et al., CVPR 2020: groups of a fixed width with squeeze and excitation."""
    blocks = [_bottleneck(i, o, o, s, o // 16, 16) for i, o, s in [(32, 48, 2), (48, 96, 2), (96, 96, 1)]]
    return nn.Sequential(conv_bn(3, 32), *blocks, classifier(96))


class ChannelNorm(nn.LayerNorm):
    """Normalizes over the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """A depthwise convolution, then two linear layers with the channels last."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.scale * self.body(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Liu et al., CVPR 2022."""
    stem = nn.Sequential(nn.Conv2d(3, 48, 4, 4), ChannelNorm(48))
    down = nn.Sequential(ChannelNorm(48), nn.Conv2d(48, 96, 2, 2))
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(96), nn.Linear(96, 10))
    return nn.Sequential(stem, ConvNextBlock(48), ConvNextBlock(48), down, ConvNextBlock(96), pooled)
