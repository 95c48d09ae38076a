"""Blocks that several families share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def conv_bn(
    ins: int, outs: int, kernel: int = 3, stride: int = 1, groups: int = 1, activation: Activation = nn.ReLU
) -> nn.Sequential:
    conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), activation())


def classifier(width: int, classes: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class SqueezeExcite(nn.Module):
    """Channels weighted by what is in all of the image: Hu et al., CVPR 2018."""

    def __init__(self, width: int, inner: int, gate: Activation = nn.Sigmoid):
        super().__init__()
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


class Residual(nn.Module):
    """`after(body(x) + shortcut(x))`."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None):
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.body(x) + self.shortcut(x))


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module in evaluation mode with scales, offsets and statistics that are not 1 and 0.

    Statistics that change nothing would let a cut that forgets them pass every proof.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        for name, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if name == "running_var" or (value.ndim == 1 and name in ("weight", "scale")):
                value.data.uniform_(0.5, 1.5, generator=generator)
            elif name == "weight" and value.ndim > 1 and not isinstance(part, nn.Embedding):
                # As large as keeps a signal through all layers, or the offsets would drown it.
                value.data.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            elif name in ("running_mean", "bias", "bias_table"):
                value.data.normal_(0, 0.2, generator=generator)
    return module.eval()
