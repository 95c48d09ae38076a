"""Networks of depthwise convolutions."""

import torch
from torch import Tensor, nn

from architectures.blocks import Activation, Residual, SqueezeExcite, classifier, conv_bn


def _inverted(
    ins: int,
    outs: int,
    expand: int,
    stride: int,
    activation: Activation,
    kernel: int = 3,
    squeeze: tuple[int, Activation] | None = None,
) -> nn.Module:
    inner = ins * expand
    parts: list[nn.Module] = [
        conv_bn(ins, inner, 1, activation=activation),
        conv_bn(inner, inner, kernel, stride, inner, activation),
    ]
    if squeeze is not None:
        parts.append(SqueezeExcite(inner, *squeeze))
    body = nn.Sequential(*parts, conv_bn(inner, outs, 1, activation=nn.Identity))
    return Residual(body) if ins == outs and stride == 1 else body


def mobilenet_v2() -> nn.Module:
    """Sandler et al., CVPR 2018."""
    shape = [(32, 32, 1), (32, 48, 2), (48, 48, 1), (48, 64, 2)]
    blocks = [_inverted(i, o, 4, s, nn.ReLU6) for i, o, s in shape]
    return nn.Sequential(
        conv_bn(3, 32, activation=nn.ReLU6), *blocks, conv_bn(64, 256, 1, activation=nn.ReLU6), classifier(256)
    )


def mobilenet_v3() -> nn.Module:
    """Howard et al., ICCV 2019: squeeze and excitation, hard swish."""
    shape = [(32, 32, 1), (32, 48, 2), (48, 48, 1)]
    blocks = [_inverted(i, o, 4, s, nn.Hardswish, 5, (32, nn.Hardsigmoid)) for i, o, s in shape]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, 128), nn.Hardswish(), nn.Linear(128, 10))
    return nn.Sequential(
        conv_bn(3, 32, activation=nn.Hardswish), *blocks, conv_bn(48, 192, 1, activation=nn.Hardswish), head
    )


def efficientnet() -> nn.Module:
    """Tan and Le, ICML 2019."""
    shape = [(32, 32, 1, 3), (32, 40, 2, 5), (40, 40, 1, 5), (40, 80, 2, 3)]
    blocks = [_inverted(i, o, 6, s, nn.SiLU, k, (i // 4, nn.Sigmoid)) for i, o, s, k in shape]
    return nn.Sequential(
        conv_bn(3, 32, activation=nn.SiLU), *blocks, conv_bn(80, 320, 1, activation=nn.SiLU), classifier(320)
    )


class Shuffled(nn.Module):
    """Half of the channels pass, half are worked on, then the two alternate."""

    def __init__(self, ins: int, outs: int, stride: int):
        super().__init__()
        half, self.split = outs // 2, stride == 1
        self.worked = nn.Sequential(
            conv_bn(half if self.split else ins, half, 1),
            conv_bn(half, half, 3, stride, half, nn.Identity),
            conv_bn(half, half, 1),
        )
        self.passed = (
            nn.Identity()
            if self.split
            else nn.Sequential(conv_bn(ins, ins, 3, stride, ins, nn.Identity), conv_bn(ins, half, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = x.chunk(2, 1) if self.split else (x, x)
        both = torch.cat([self.passed(passed), self.worked(worked)], 1)
        n, c, h, w = both.shape
        return both.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet_v2() -> nn.Module:
    """Ma et al., ECCV 2018."""
    blocks = [Shuffled(32, 64, 2), Shuffled(64, 64, 1), Shuffled(64, 64, 1), Shuffled(64, 128, 2)]
    return nn.Sequential(conv_bn(3, 32), *blocks, conv_bn(128, 192, 1), classifier(192))
