"""A detector of one shot."""

import torch
from torch import Tensor, nn

from architectures.blocks import Residual, conv_bn


class C2f(nn.Module):
    """Splits the channels in two, works on one half, and concatenates every step of it."""

    def __init__(self, ins: int, outs: int, steps: int = 2, add: bool = True):
        super().__init__()
        self.half = outs // 2
        self.first = conv_bn(ins, outs, 1, activation=nn.SiLU)
        pair = [nn.Sequential(*(conv_bn(self.half, self.half, activation=nn.SiLU) for _ in "12")) for _ in range(steps)]
        self.steps = nn.ModuleList(Residual(p) if add else p for p in pair)
        self.last = conv_bn((2 + steps) * self.half, outs, 1, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).split((self.half, self.half), 1))
        for step in self.steps:
            parts.append(step(parts[-1]))
        return self.last(torch.cat(parts, 1))


class PooledPyramid(nn.Module):
    """The same pooling three times, all of it concatenated."""

    def __init__(self, width: int):
        super().__init__()
        self.first = conv_bn(width, width // 2, 1, activation=nn.SiLU)
        self.last = conv_bn(2 * width, width, 1, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """As YOLOv8 of Ultralytics: two scales, boxes as distributions over distances, scores beside them."""

    classes, bins = 8, 8

    def __init__(self) -> None:
        super().__init__()
        act = {"activation": nn.SiLU}
        self.small = nn.Sequential(conv_bn(3, 32, 3, 2, **act), conv_bn(32, 64, 3, 2, **act), C2f(64, 64))
        self.large = nn.Sequential(conv_bn(64, 128, 3, 2, **act), C2f(128, 128), PooledPyramid(128))
        self.up = C2f(128 + 64, 64, 1, add=False)
        self.down = conv_bn(64, 64, 3, 2, **act)
        self.merged = C2f(128 + 64, 128, 1, add=False)
        self.boxes = nn.ModuleList(self._head(w, 32, 4 * self.bins) for w in (64, 128))
        self.scores = nn.ModuleList(self._head(w, 32, self.classes) for w in (64, 128))
        self.distance = nn.Conv2d(self.bins, 1, 1, bias=False)

    @staticmethod
    def _head(ins: int, inner: int, outs: int) -> nn.Module:
        act = {"activation": nn.SiLU}
        return nn.Sequential(conv_bn(ins, inner, **act), conv_bn(inner, inner, **act), nn.Conv2d(inner, outs, 1))

    def forward(self, x: Tensor) -> Tensor:
        small = self.small(x)
        large = self.large(small)
        enlarged = nn.functional.interpolate(large, scale_factor=2.0, mode="nearest")
        fine = self.up(torch.cat([enlarged, small], 1))
        coarse = self.merged(torch.cat([self.down(fine), large], 1))
        found = [
            torch.cat([box(f), score(f)], 1).flatten(2)
            for box, score, f in zip(self.boxes, self.scores, (fine, coarse), strict=True)
        ]
        boxes, scores = torch.cat(found, 2).split((4 * self.bins, self.classes), 1)
        bins = boxes.reshape(boxes.shape[0], 4, self.bins, -1).transpose(1, 2).softmax(1)
        return torch.cat([self.distance(bins).flatten(1, 2), scores.sigmoid()], 1)
