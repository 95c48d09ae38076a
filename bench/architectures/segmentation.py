"""Networks that make images of images."""

import torch
from torch import Tensor, nn

from architectures.blocks import conv_bn


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015: what goes down is concatenated on the way up."""

    def __init__(self, width: int = 32):
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            nn.Sequential(conv_bn(i, o), conv_bn(o, o)) for i, o in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(nn.Sequential(conv_bn(2 * w, w), conv_bn(w, w)) for w in reversed(widths[:-1]))
        self.out = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        passed = []
        for stage in self.down[:-1]:
            passed.append(stage(x))
            x = nn.functional.max_pool2d(passed[-1], 2)
        x = self.down[-1](x)
        for enlarge, stage, other in zip(self.enlarge, self.up, reversed(passed), strict=True):
            x = stage(torch.cat([other, enlarge(x)], 1))
        return self.out(x)
