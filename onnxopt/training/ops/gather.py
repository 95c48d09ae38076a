"""Operators that choose elements by index, or put them there."""

from collections.abc import Mapping

import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, known_or_read

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrapped(index: Tensor, size: int) -> Tensor:
    index = index.long()
    return torch.where(index < 0, index + size, index)


def _gather(site: Site) -> Apply:
    axis, index = site.get("axis", 0), site.constant(1)
    if index is not None and index.dim() == 0:
        position = int(index)
        return lambda x, _: x.select(axis, position)

    def gather(x: Tensor, chosen: Tensor) -> Tensor:
        flat = x.index_select(axis, _wrapped(chosen, x.shape[axis]).reshape(-1))
        if chosen.dim() == 1:
            return flat
        first = axis % x.dim()
        return flat.reshape(*x.shape[:first], *chosen.shape, *x.shape[first + 1 :])

    return gather


def _gather_elements(site: Site) -> Apply:
    axis = site.get("axis", 0)
    return lambda x, index: torch.gather(x, axis, _wrapped(index, x.shape[axis]))


def _gather_nd(site: Site) -> Apply:
    batch = site.get("batch_dims", 0)

    def gather(x: Tensor, index: Tensor) -> Tensor:
        keys: list[Tensor] = []
        for i in range(batch):
            line = torch.arange(x.shape[i], device=x.device)
            keys.append(line.reshape([-1 if j == i else 1 for j in range(index.dim() - 1)]))
        keys += [_wrapped(part, x.shape[batch + i]) for i, part in enumerate(index.unbind(-1))]
        return x[tuple(keys)] if keys else x

    return gather


def _scatter_elements(site: Site) -> Apply:
    axis, reduction = site.get("axis", 0), site.get("reduction", "none")

    def scatter(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        places = _wrapped(index, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])

    return scatter


def _scatter_nd(site: Site) -> Apply:
    reduction = site.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise site.refuse(f"its reduction is {reduction}")

    def scatter(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        keys = tuple(_wrapped(part, x.shape[i]) for i, part in enumerate(index.unbind(-1)))
        return x.index_put(keys, updates, accumulate=reduction == "add")

    return scatter


def _one_hot(site: Site) -> Apply:
    axis, read = site.get("axis", -1), known_or_read(site, 1)

    def apply(index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        (size,) = read(depth) or (0,)
        places = _wrapped(index, size).unsqueeze(axis)
        line = torch.arange(size, device=index.device)
        where = axis % places.dim()
        hit = places == line.reshape([-1 if i == where else 1 for i in range(places.dim())])
        return torch.where(hit, values[1], values[0])

    return apply


def _top_k(site: Site) -> Apply:
    axis, largest, ordered = site.get("axis", -1), bool(site.get("largest", 1)), bool(site.get("sorted", 1))
    stated, read = site.get("k"), known_or_read(site, 1)

    def apply(x: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
        k = stated if stated is not None else (read(count) or (0,))[0]
        return tuple(torch.topk(x, k, axis, largest, ordered))

    return apply


def _compress(site: Site) -> Apply:
    axis = site.get("axis")

    def apply(x: Tensor, keep: Tensor) -> Tensor:
        rows = x.reshape(-1) if axis is None else x
        return rows.index_select(axis or 0, keep.nonzero().reshape(-1))

    return apply


RULES: Mapping[str, Rule] = {
    "Compress": Rule(_compress, loose=True),
    "Gather": Rule(_gather),
    "GatherElements": Rule(_gather_elements),
    "GatherND": Rule(_gather_nd),
    "NonZero": Rule(lambda site: lambda x: x.nonzero().t(), loose=True),
    "OneHot": Rule(_one_hot, sizes=(1,)),
    "Scatter": Rule(_scatter_elements),
    "ScatterElements": Rule(_scatter_elements),
    "ScatterND": Rule(_scatter_nd),
    "TopK": Rule(_top_k, sizes=(1,)),
}
