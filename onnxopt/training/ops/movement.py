"""Operators that move elements and change none."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands, known_or_read


def _reshape(site: Site) -> Apply:
    read, zeros = known_or_read(site, 1), bool(site.get("allowzero", 0))
    fixed = site.ints(1)
    if fixed is not None and (zeros or 0 not in fixed):
        return lambda x, _: x.reshape(fixed)

    def reshape(x: Tensor, shape: Tensor) -> Tensor:
        target = read(shape) or ()
        return x.reshape(target if zeros else tuple(n or x.shape[i] for i, n in enumerate(target)))

    return reshape


def _flatten(site: Site) -> Apply:
    axis = site.get("axis", 1)

    def flatten(x: Tensor) -> Tensor:
        rows = prod(x.shape[: axis if axis >= 0 else x.dim() + axis])
        return x.reshape(rows, prod(x.shape) // rows if rows else -1)

    return flatten


def _transpose(site: Site) -> Apply:
    order = site.get("perm")
    return (lambda x: x.permute(order)) if order else (lambda x: x.permute(*reversed(range(x.dim()))))


def _squeeze(site: Site) -> Apply:
    stated, read = site.get("axes"), known_or_read(site, 1)

    def squeeze(x: Tensor, listed: Tensor | None = None) -> Tensor:
        axes = stated if stated is not None else read(listed)
        return x.squeeze() if axes is None else x.squeeze(tuple(axes))

    return squeeze


def _unsqueeze(site: Site) -> Apply:
    stated, read = site.get("axes"), known_or_read(site, 1)

    def unsqueeze(x: Tensor, listed: Tensor | None = None) -> Tensor:
        axes = stated if stated is not None else read(listed) or ()
        for axis in sorted(a % (x.dim() + len(axes)) for a in axes):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def _concat(site: Site) -> Apply:
    axis = site.get("axis", 1)
    return lambda *parts: torch.cat(parts, axis)


def _split(site: Site) -> Apply:
    axis, stated, read = site.get("axis", 0), site.get("split"), known_or_read(site, 1)
    count = site.get("num_outputs", site.outputs)

    def split(x: Tensor, listed: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = stated if stated is not None else read(listed)
        if sizes is None:
            step = -(-x.shape[axis] // count)
            sizes = [min(step, x.shape[axis] - step * i) for i in range(count)]
        return tuple(torch.split(x, list(sizes), axis))

    return split


def _slice(site: Site) -> Apply:
    if site.version < 10:
        starts, ends = site.get("starts"), site.get("ends")
        axes = site.get("axes") or range(len(starts))
        bounds = [*zip(axes, starts, ends, (1,) * len(starts), strict=True)]
        return lambda x: _sliced(x, bounds)
    reads = [known_or_read(site, slot) for slot in range(1, 5)]

    def apply(x: Tensor, *listed: Tensor | None) -> Tensor:
        starts, ends, axes, steps = (read(v) for read, v in zip(reads, (*listed, None, None)[:4], strict=True))
        first, last = starts or (), ends or ()
        return _sliced(x, zip(axes or range(len(first)), first, last, steps or (1,) * len(first), strict=True))

    return apply


def _sliced(x: Tensor, bounds: Any) -> Tensor:
    for axis, start, end, step in bounds:
        size = x.shape[axis]
        begin, stop, stride = slice(start, end, step).indices(size)
        if step > 0:
            keys = [slice(None)] * (axis % x.dim()) + [slice(begin, max(stop, begin), stride)]
            x = x[tuple(keys)]
        else:
            index = torch.arange(begin, stop, stride, device=x.device)
            x = x.index_select(axis, index)
    return x


def _expand(site: Site) -> Apply:
    read = known_or_read(site, 1)

    def expand(x: Tensor, shape: Tensor) -> Tensor:
        return x.expand(torch.broadcast_shapes(tuple(x.shape), read(shape) or ()))

    return expand


def _tile(site: Site) -> Apply:
    read = known_or_read(site, 1)
    return lambda x, repeats: x.repeat(read(repeats) or ())


def _depth_to_space(site: Site) -> Apply:
    block, columns_first = site.get("blocksize"), site.get("mode", "DCR") == "CRD"

    def apply(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        inner = c // block**2
        if columns_first:
            parts = x.reshape(n, inner, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        else:
            parts = x.reshape(n, block, block, inner, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, inner, h * block, w * block)

    return apply


def _space_to_depth(site: Site) -> Apply:
    block = site.get("blocksize")

    def apply(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, c * block**2, h // block, w // block)

    return apply


def _dropout(site: Site) -> Apply:
    return lambda x, *_: x if site.outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))


def _trilu(site: Site) -> Apply:
    read, upper = known_or_read(site, 1), bool(site.get("upper", 1))

    def apply(x: Tensor, k: Tensor | None = None) -> Tensor:
        (diagonal,) = read(k) or (0,)
        return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)

    return apply


def _reverse_sequence(site: Site) -> Apply:
    batch, time = site.get("batch_axis", 1), site.get("time_axis", 0)

    def apply(x: Tensor, lengths: Tensor) -> Tensor:
        rows = x.movedim((batch, time), (0, 1))
        steps = torch.arange(rows.shape[1], device=x.device)
        back = lengths[:, None] - 1 - steps
        index = torch.where(back >= 0, back, steps)
        turned = rows[torch.arange(rows.shape[0], device=x.device)[:, None], index]
        return turned.movedim((0, 1), (batch, time))

    return apply


def _crop(site: Site) -> Apply:
    left, top, right, bottom = site.get("border")
    scale: Sequence[int] | None = site.get("scale")

    def apply(x: Tensor) -> Tensor:
        if scale:
            return x[:, :, top : top + scale[0], left : left + scale[1]]
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]

    return apply


RULES: Mapping[str, Rule] = {
    "Concat": Rule(_concat),
    "Crop": Rule(_crop),
    "DepthToSpace": Rule(_depth_to_space),
    "Dropout": Rule(_dropout),
    "Expand": Rule(_expand, sizes=(1,)),
    "Flatten": Rule(_flatten),
    "Identity": as_it_stands(lambda x: x),
    "Reshape": Rule(_reshape, sizes=(1,)),
    "ReverseSequence": Rule(_reverse_sequence),
    "Slice": Rule(_slice, sizes=(1, 2, 3, 4)),
    "SpaceToDepth": Rule(_space_to_depth),
    "Split": Rule(_split, sizes=(1,)),
    "Squeeze": Rule(_squeeze, sizes=(1,)),
    "Tile": Rule(_tile, sizes=(1,)),
    "Transpose": Rule(_transpose),
    "Trilu": Rule(_trilu),
    "Unsqueeze": Rule(_unsqueeze, sizes=(1,)),
}
