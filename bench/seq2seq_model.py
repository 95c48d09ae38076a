"""A small encoder-decoder in torch: what it learns as one module, and the three that are exported."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

HEADS, LONGEST, DROPOUT = 6, 40, 0.1

Cache = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, each of shape `(texts, heads, tokens, width / heads)`."""


class Attention(nn.Module):
    """Attention to a source, whose keys and values may be older than the query."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
        self.drop = nn.Dropout(DROPOUT)

    def source(self, x: torch.Tensor) -> Cache:
        """Return keys and values of a source, shape `(texts, tokens, width)`."""
        return _by_head(self.key(x)), _by_head(self.value(x))

    def forward(self, x: torch.Tensor, query: torch.Tensor, source: Cache, bias: torch.Tensor) -> torch.Tensor:
        key, value = source
        scores = _by_head(self.query(query)) @ key.transpose(2, 3) * key.shape[3] ** -0.5
        found = (torch.softmax(scores + bias, -1) @ value).transpose(1, 2).flatten(2)
        return x + self.drop(self.mixed(found))


def _by_head(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


class Layers(nn.Module):
    """Two products with a GELU between, behind a LayerNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.down(functional.gelu(self.up(self.norm(x)))))


class Block(nn.Module):
    """A block of the encoder, or with `cross` one of the decoder."""

    def __init__(self, width: int, *, cross: bool) -> None:
        super().__init__()
        self.own, self.layers = Attention(width), Layers(width)
        self.cross = Attention(width) if cross else None

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        normed = self.own.norm(x)
        return self.layers(self.own(x, normed, self.own.source(normed), bias))

    def step(
        self, x: torch.Tensor, past: Cache | None, other: Cache, bias: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, Cache]:
        """Return the values behind further tokens, and the longer cache."""
        assert self.cross is not None
        normed = self.own.norm(x)
        key, value = self.own.source(normed)
        if past is not None:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        x = self.own(x, normed, (key, value), bias[0])
        return self.layers(self.cross(x, self.cross.norm(x), other, bias[1])), (key, value)


class Model(nn.Module):
    """An encoder and a decoder with one table of tokens and one of places."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(LONGEST + 2, width)
        self.encoder = nn.ModuleList(Block(width, cross=False) for _ in range(layers))
        self.decoder = nn.ModuleList(Block(width, cross=True) for _ in range(layers))
        self.read, self.written = nn.LayerNorm(width), nn.LayerNorm(width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the values of each token, shape `(texts, tokens, width)`."""
        x, bias = self.tokens(ids) + self.places(torch.arange(ids.shape[1])), _hidden(mask)
        for block in self.encoder:
            x = block(x, bias)
        return self.read(x)

    def sources(self, encoded: torch.Tensor) -> list[Cache]:
        """Return the keys and values of the encoder's output in each block."""
        return [block.cross.source(encoded) for block in self.decoder]

    def decode(
        self, ids: torch.Tensor, mask: torch.Tensor, past: Sequence[Cache] | None, others: Sequence[Cache]
    ) -> tuple[torch.Tensor, list[Cache]]:
        """Return the logits behind further tokens, and the longer cache."""
        begin = 0 if past is None else past[0][0].shape[2]
        places = torch.arange(ids.shape[1]) + begin
        later = torch.arange(begin + ids.shape[1]) > places[:, None]
        bias = torch.where(later, -1e9, 0.0), _hidden(mask)
        x, kept = self.tokens(ids) + self.places(places), list[Cache]()
        for i, block in enumerate(self.decoder):
            x, cache = block.step(x, None if past is None else past[i], others[i], bias)
            kept.append(cache)
        return self.written(x) @ self.tokens.weight.T, kept

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        return self.decode(answer, mask, None, self.sources(self.encode(ids, mask)))[0]


def _hidden(mask: torch.Tensor) -> torch.Tensor:
    """Return what is added to scores, so that padding is not attended to."""
    return torch.where(mask == 0, -1e9, 0.0)[:, None, None, :]


class Encoder(nn.Module):
    """`encoder_model.onnx`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode(input_ids, attention_mask)


class FirstTokens(nn.Module):
    """`decoder_model.onnx`: keys and values of both attentions out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, mask: torch.Tensor, ids: torch.Tensor, encoded: torch.Tensor) -> tuple[torch.Tensor, ...]:
        others = self.model.sources(encoded)
        logits, kept = self.model.decode(ids, mask, None, others)
        return logits, *(array for i, own in enumerate(kept) for array in (*own, *others[i]))


class LaterTokens(nn.Module):
    """`decoder_with_past_model.onnx`: keys and values of both attentions in, those of its own tokens out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, mask: torch.Tensor, ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = [(past[i], past[i + 1]) for i in range(0, len(past), 4)]
        others = [(past[i + 2], past[i + 3]) for i in range(0, len(past), 4)]
        logits, kept = self.model.decode(ids, mask, own, others)
        return logits, *(array for cache in kept for array in cache)
