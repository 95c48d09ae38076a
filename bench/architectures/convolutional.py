"""Plain, parallel and densely connected convolutions."""

import torch
from torch import Tensor, nn

from architectures.blocks import classifier, conv_bn


def vgg() -> nn.Module:
    """Simonyan and Zisserman, ICLR 2015: the flattened image goes into the first linear layer."""
    stages = [nn.Sequential(conv_bn(i, o), conv_bn(o, o), nn.MaxPool2d(2)) for i, o in [(3, 32), (32, 64), (64, 96)]]
    head = nn.Sequential(nn.Flatten(), nn.Linear(96 * 16, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    return nn.Sequential(*stages, head, nn.Linear(64, 10))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, ins: int):
        super().__init__()
        self.one = conv_bn(ins, 32, 1)
        self.three = nn.Sequential(conv_bn(ins, 48, 1), conv_bn(48, 64))
        self.five = nn.Sequential(conv_bn(ins, 32, 1), conv_bn(32, 32, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(ins, 32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def googlenet() -> nn.Module:
    """Szegedy et al., CVPR 2015."""
    return nn.Sequential(conv_bn(3, 64, 3, 2), Inception(64), Inception(160), nn.MaxPool2d(2), classifier(160))


class DenseLayer(nn.Module):
    """Adds `growth` channels to those it reads, each behind its own normalization."""

    def __init__(self, ins: int, growth: int):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(ins), nn.ReLU(), nn.Conv2d(ins, 4 * growth, 1, bias=False)),
            *(nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    """Huang et al., CVPR 2017."""
    transition = nn.Sequential(nn.BatchNorm2d(160), nn.ReLU(), nn.Conv2d(160, 80, 1, bias=False), nn.AvgPool2d(2))
    first = [DenseLayer(64 + 32 * i, 32) for i in range(3)]
    second = [DenseLayer(80 + 32 * i, 32) for i in range(3)]
    end = nn.Sequential(nn.BatchNorm2d(176), nn.ReLU(), classifier(176))
    return nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), *first, transition, *second, end)


class SuperResolution(nn.Module):
    """Four times the size by a shuffle of channels into space: Shi et al., CVPR 2016, with an enlarged residual."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1))
        # Twice two: the first shuffle makes channels that a second convolution reads.
        self.first = nn.Sequential(nn.Conv2d(32, 128, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(32))
        self.second = nn.Sequential(nn.Conv2d(32, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        large = nn.functional.interpolate(x, scale_factor=4.0, mode="nearest")
        return self.second(self.first(torch.tanh(self.features(x)))) + large
