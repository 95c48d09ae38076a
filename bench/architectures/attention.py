"""Transformers over patches of images."""

import torch
from torch import Tensor, nn

from architectures.blocks import Residual


def feed_forward(width: int, inner: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class Attention(nn.Module):
    """Heads from one linear layer, attention written out, as most code of images has it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        n, t, width = x.shape
        size = width // self.heads
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * size**-0.5
        weights = (scores if bias is None else scores + bias).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, width))


class ViT(nn.Module):
    """Dosovitskiy et al., ICLR 2021."""

    def __init__(self, width: int = 64, heads: int = 4, patches: int = 16):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.summary = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, patches + 1, width))
        blocks = [Residual(m) for _ in range(2) for m in (Attention(width, heads), feed_forward(width, 4 * width))]
        self.blocks, self.norm, self.head = nn.Sequential(*blocks), nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.summary.expand(x.shape[0], -1, -1), patches], 1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class WindowAttention(nn.Module):
    """Attention inside windows, which are moved by `shift` so that neighbours meet; biased by where tokens are."""

    def __init__(self, width: int, heads: int, side: int, window: int, shift: int):
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.attention = Attention(width, heads)
        self.bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        at = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = at[:, None] - at[None] + window - 1
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        region = torch.zeros(side, side)
        if shift:
            region[-window:-shift, :] += 1
            region[-shift:, :] += 2
            region[:, -window:-shift] += 3
            region[:, -shift:] += 6
        of = self._windows(region[None, :, :, None]).squeeze(-1)
        self.register_buffer("mask", (of[:, None] != of[:, :, None]).float() * -100)

    def _windows(self, x: Tensor) -> Tensor:
        n, count, w, c = x.shape[0], self.side // self.window, self.window, x.shape[-1]
        return x.reshape(n, count, w, count, w, c).transpose(2, 3).reshape(-1, w * w, c)

    def forward(self, x: Tensor) -> Tensor:
        n, c, count, w, tokens = x.shape[0], x.shape[2], self.side // self.window, self.window, self.window**2
        image = x.reshape(n, self.side, self.side, c)
        if self.shift:
            image = image.roll((-self.shift, -self.shift), (1, 2))
        bias = self.bias_table[self.index.flatten()].reshape(tokens, tokens, -1).permute(2, 0, 1)
        if self.shift:
            bias = (bias[None] + self.mask[:, None]).repeat(n, 1, 1, 1)
        done = self.attention(self._windows(image), bias)
        image = done.reshape(n, count, count, w, w, c).transpose(2, 3).reshape(n, self.side, self.side, c)
        if self.shift:
            image = image.roll((self.shift, self.shift), (1, 2))
        return image.reshape(n, self.side**2, c)


class Merge(nn.Module):
    """Four neighbours become one token."""

    def __init__(self, width: int, side: int):
        super().__init__()
        self.side, self.norm, self.reduce = side, nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[0], x.shape[2]
        image = x.reshape(n, self.side, self.side, c)
        four = [image[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(torch.cat(four, -1).reshape(n, -1, 4 * c)))


class Swin(nn.Module):
    """Liu et al., ICCV 2021."""

    def __init__(self, width: int = 48, heads: int = 3, side: int = 8, window: int = 4):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        blocks: list[nn.Module] = []
        for stage in range(2):
            if stage:
                blocks.append(Merge(width, side))
                width, heads, side = 2 * width, 2 * heads, side // 2
            for shift in (0, window // 2 if side > window else 0):
                attention = WindowAttention(width, heads, side, window, shift)
                blocks += [Residual(attention), Residual(feed_forward(width, 4 * width))]
        self.blocks, self.last, self.head = nn.Sequential(*blocks), nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.last(self.blocks(tokens)).mean(1))
