"""Pooling."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands
from onnxopt.training.ops.windows import fixed_pads, pads_for, torch_pads

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _shape_of_windows(site: Site) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    kernel = tuple(site.get("kernel_shape"))
    ones = (1,) * len(kernel)
    return kernel, tuple(site.get("strides") or ones), tuple(site.get("dilations") or ones)


def _pads(site: Site, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the pads before and after, and the room beyond those that a last, partial window needs."""
    kernel, strides, dilations = _shape_of_windows(site)
    pads = fixed_pads(site)
    if pads is None:
        pads = pads_for(site, sizes, kernel, strides, dilations)
    rank = len(kernel)
    begin, end = (pads[:rank], pads[rank:]) if pads else ((0,) * rank, (0,) * rank)
    if not site.get("ceil_mode", 0):
        return begin, end, (0,) * rank
    room = []
    for n, b, e, k, s, d in zip(sizes, begin, end, kernel, strides, dilations, strict=True):
        reach = n + b + e - (k - 1) * d - 1
        windows = -(-reach // s) + 1
        # The last window counts only if it starts on the input or on what is padded before it.
        windows -= (windows - 1) * s >= n + b
        room.append(max((windows - 1) * s - reach, 0))
    return begin, end, tuple(room)


def _padded(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    return F.pad(x, torch_pads(begin, end), value=value) if any((*begin, *end)) else x


def _plus(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _max_pool(site: Site) -> Apply:
    kernel, strides, dilations = _shape_of_windows(site)
    if site.outputs > 1:
        raise site.refuse("it returns indices")
    simple = fixed_pads(site) == () and not site.get("ceil_mode", 0)

    def pool(x: Tensor) -> Tensor:
        function = _MAX[len(kernel)]
        if simple:
            return function(x, kernel, strides, 0, dilations)
        begin, end, room = _pads(site, x.shape[2:])
        if begin == _plus(end, room) and all(2 * b <= k for b, k in zip(begin, kernel, strict=True)):
            return function(x, kernel, strides, begin, dilations)
        lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
        return function(_padded(x, begin, _plus(end, room), lowest), kernel, strides, 0, dilations)

    return pool


def _average_pool(site: Site) -> Apply:
    kernel, strides, dilations = _shape_of_windows(site)
    if any(d != 1 for d in dilations):
        raise site.refuse("its windows are dilated")
    whole = bool(site.get("count_include_pad", 0))

    def pool(x: Tensor) -> Tensor:
        function = _AVERAGE[len(kernel)]
        begin, end, room = _pads(site, x.shape[2:])
        if begin == end and not any(room) and all(2 * b <= k for b, k in zip(begin, kernel, strict=True)):
            return function(x, kernel, strides, begin, False, whole)
        # Means over whole windows, divided by the share of each window that counts.
        counted = _padded(x.new_ones((1, 1, *x.shape[2:])), begin, end, float(whole))
        counted = _padded(counted, (0,) * len(kernel), room)
        return function(_padded(x, begin, _plus(end, room)), kernel, strides) / function(counted, kernel, strides)

    return pool


def _lp_pool(site: Site) -> Apply:
    kernel, strides, dilations = _shape_of_windows(site)
    if any(d != 1 for d in dilations):
        raise site.refuse("its windows are dilated")
    power = site.get("p", 2)

    def pool(x: Tensor) -> Tensor:
        begin, end, room = _pads(site, x.shape[2:])
        padded = _padded(x, begin, _plus(end, room))
        sums = _AVERAGE[len(kernel)](padded.abs().pow(power), kernel, strides) * torch.Size(kernel).numel()
        return sums.pow(1 / power)

    return pool


def _over_space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _global_lp(site: Site) -> Apply:
    power = site.get("p", 2)
    return lambda x: x.abs().pow(power).sum(_over_space(x), keepdim=True).pow(1 / power)


RULES: Mapping[str, Rule] = {
    "AveragePool": Rule(_average_pool),
    "GlobalAveragePool": as_it_stands(lambda x: x.mean(_over_space(x), keepdim=True)),
    "GlobalLpPool": Rule(_global_lp),
    "GlobalMaxPool": as_it_stands(lambda x: x.amax(_over_space(x), keepdim=True)),
    "LpPool": Rule(_lp_pool),
    "MaxPool": Rule(_max_pool),
}
