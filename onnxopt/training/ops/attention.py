"""The attention operator of opset 23."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site


def _attention(site: Site) -> Apply:
    heads, shared = site.get("q_num_heads"), site.get("kv_num_heads")
    scale, cap, causal = site.get("scale"), site.get("softcap", 0.0), bool(site.get("is_causal", 0))
    if site.outputs > 3:
        raise site.refuse("it returns its scores")
    if 6 in site.fed:
        raise site.refuse("its keys are padded")

    def apply(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor | None) -> Any:
        mask, past_k, past_v = (*rest, None, None, None)[:3]
        flat = q.dim() == 3
        if flat:
            q, k, v = _split(q, heads), _split(k, shared), _split(v, shared)
        if past_k is not None and past_v is not None:
            k, v = torch.cat((past_k, k), 2), torch.cat((past_v, v), 2)
        present = k, v
        if (group := q.shape[1] // k.shape[1]) > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = (q @ k.transpose(-1, -2)) * (scale if scale else 1 / sqrt(q.shape[-1]))
        if cap:
            scores = cap * torch.tanh(scores / cap)
        if causal:
            scores = _causal(scores, with_past=past_k is not None)
        y = torch.softmax(_masked(scores, mask), -1) @ v
        if flat:
            y = y.transpose(1, 2).flatten(2)
        return y if site.outputs == 1 else (y, *present)[: site.outputs]

    return apply


def _causal(scores: Tensor, *, with_past: bool) -> Tensor:
    """Exclude the keys that follow each query."""
    queries, keys = scores.shape[-2:]
    seen = torch.ones(queries, keys, dtype=torch.bool, device=scores.device)
    return scores.masked_fill(~seen.tril(keys - queries if with_past else 0), float("-inf"))


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


RULES: Mapping[str, Rule] = {"Attention": Rule(_attention)}
