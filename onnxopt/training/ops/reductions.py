"""Reductions over axes."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, known_or_read

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _over_axes(reduce: Reduce) -> Rule:
    def build(site: Site) -> Apply:
        keep = bool(site.get("keepdims", 1))
        stated = site.get("axes")
        read = known_or_read(site, 1)
        untouched = bool(site.get("noop_with_empty_axes", 0))

        def apply(x: Tensor, listed: Tensor | None = None) -> Tensor:
            axes = tuple(stated) if stated is not None else read(listed)
            if not axes:
                if untouched:
                    return reduce(x.unsqueeze(-1), (-1,), False)
                axes = tuple(range(x.dim()))
            return reduce(x, axes, keep) if axes else reduce(x.unsqueeze(0), (0,), False)

        return apply

    return Rule(build, sizes=(1,))


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep, dtype=x.dtype)
    return x


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keepdim=keep)
    return torch.mean(x.double(), axes, keepdim=keep).to(x.dtype)


def _arg(function: Callable[..., Tensor]) -> Rule:
    def build(site: Site) -> Apply:
        axis, keep, last = site.get("axis", 0), bool(site.get("keepdims", 1)), site.get("select_last_index", 0)

        def apply(x: Tensor) -> Tensor:
            if last:
                return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)
            return function(x, axis, keepdim=keep)

        return apply

    return Rule(build)


def _cumulative(site: Site) -> Apply:
    exclusive, backwards = bool(site.get("exclusive", 0)), bool(site.get("reverse", 0))
    read = known_or_read(site, 1)

    def apply(x: Tensor, where: Tensor) -> Tensor:
        (axis,) = read(where) or (0,)
        turned = x.flip(axis) if backwards else x
        total = torch.cumsum(turned, axis, dtype=x.dtype)
        total = total - turned if exclusive else total
        return total.flip(axis) if backwards else total

    return apply


RULES: Mapping[str, Rule] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumSum": Rule(_cumulative),
    "ReduceL1": _over_axes(lambda x, axes, keep: _sum(x.abs(), axes, keep)),
    "ReduceL2": _over_axes(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep)),
    "ReduceLogSum": _over_axes(lambda x, axes, keep: _sum(x, axes, keep).log()),
    "ReduceLogSumExp": _over_axes(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep)),
    "ReduceMax": _over_axes(lambda x, axes, keep: torch.amax(x, axes, keepdim=keep)),
    "ReduceMean": _over_axes(_mean),
    "ReduceMin": _over_axes(lambda x, axes, keep: torch.amin(x, axes, keepdim=keep)),
    "ReduceProd": _over_axes(_product),
    "ReduceSum": _over_axes(_sum),
    "ReduceSumSquare": _over_axes(lambda x, axes, keep: _sum(x.square(), axes, keep)),
}
