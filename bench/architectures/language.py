"""Transformers over text."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from architectures.attention import feed_forward
from architectures.blocks import Residual

VOCABULARY = 200


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


class BertLayer(nn.Module):
    """Three linear layers for queries, keys and values; normalized after each sum."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (_heads(layer(x), self.heads) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + mask).softmax(-1)
        x = self.first(x + self.out(_joined(weights @ v)))
        return self.second(x + self.down(gelu(self.up(x))))


class Bert(nn.Module):
    """Devlin et al., NAACL 2019: token ids and a mask to classes."""

    def __init__(self, width: int = 64, heads: int = 4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(64, width)
        self.kinds, self.norm = nn.Embedding(2, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(BertLayer(width, heads) for _ in range(2))
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        at = torch.arange(ids.shape[1], device=ids.device)[None]
        x = self.norm(self.tokens(ids) + self.places(at) + self.kinds(torch.zeros_like(ids)))
        added = (1 - mask[:, None, None].float()) * -1e4
        for layer in self.layers:
            x = layer(x, added)
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class GptAttention(nn.Module):
    """Queries, keys and values are parts of one layer; no token sees what follows it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.width, self.norm = heads, width, nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (_heads(part, self.heads) for part in self.qkv(self.norm(x)).split(self.width, 2))
        return self.out(_joined(scaled_dot_product_attention(q, k, v, is_causal=True)))


class Gpt2(nn.Module):
    """Radford et al., 2019."""

    def __init__(self, width: int = 64, heads: int = 4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(64, width)
        blocks = [Residual(m) for _ in range(2) for m in (GptAttention(width, heads), feed_forward(width, 4 * width))]
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        at = torch.arange(ids.shape[1], device=ids.device)[None]
        return self.head(self.norm(self.blocks(self.tokens(ids) + self.places(at))))


class RmsNorm(nn.Module):
    """Zhang and Sennrich, NeurIPS 2019."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of dimensions, half a head apart, by angles that grow with the place: Su et al., 2021."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class LlamaAttention(nn.Module):
    """Several heads of queries share one of keys and values: Ainslie et al., EMNLP 2023."""

    def __init__(self, width: int, heads: int, shared: int):
        super().__init__()
        self.heads, self.shared, self.norm = heads, shared, RmsNorm(width)
        self.q, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, width * shared // heads, bias=False) for _ in range(2))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        seen = self.norm(x)
        q, k, v = _heads(self.q(seen), self.heads), _heads(self.k(seen), self.shared), _heads(self.v(seen), self.shared)
        q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
        times = self.heads // self.shared
        k, v = (
            p[:, :, None].expand(-1, -1, times, -1, -1).reshape(p.shape[0], self.heads, *p.shape[2:]) for p in (k, v)
        )
        return self.out(_joined(scaled_dot_product_attention(q, k, v, is_causal=True)))


class GatedFeedForward(nn.Module):
    """SwiGLU: Shazeer, 2020."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm, self.down = RmsNorm(width), nn.Linear(inner, width, bias=False)
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        return self.down(silu(self.gate(seen)) * self.up(seen))


class Llama(nn.Module):
    """Touvron et al., 2023, with grouped queries."""

    def __init__(self, width: int = 64, heads: int = 8, shared: int = 4):
        super().__init__()
        self.tokens, self.norm = nn.Embedding(VOCABULARY, width), RmsNorm(width)
        self.attentions = nn.ModuleList(LlamaAttention(width, heads, shared) for _ in range(2))
        self.feeds = nn.ModuleList(Residual(GatedFeedForward(width, 160)) for _ in range(2))
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        size = width // heads
        self.register_buffer("speeds", 10000.0 ** (-torch.arange(0, size, 2) / size))

    def forward(self, ids: Tensor) -> Tensor:
        at = torch.arange(ids.shape[1], device=ids.device).float()
        angles = (at[:, None] * self.speeds[None]).repeat(1, 2)
        cos, sin, x = angles.cos(), angles.sin(), self.tokens(ids)
        for attention, feed in zip(self.attentions, self.feeds, strict=True):
            x = feed(x + attention(x, cos, sin))
        return self.head(self.norm(x))
