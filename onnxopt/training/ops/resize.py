"""Resizing: linear and separable, so a matrix per axis that changes its size."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import floor

import numpy as np
import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, known_or_read


def _resize(site: Site) -> Apply:
    old = _is_old(site)
    scales_slot, sizes_slot = (1, 9) if old else (2, 3)
    read_scales, read_sizes, read_roi = _floats(site, scales_slot), known_or_read(site, sizes_slot), _floats(site, 1)
    coordinates = site.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    crops = coordinates == "tf_crop_and_resize"
    if site.get("antialias", 0):
        raise site.refuse("it is antialiased")

    weights = _weights(site, coordinates)

    def resize(x: Tensor, *inputs: Tensor | None) -> Tensor:
        given = (x, *inputs)
        axes = tuple(a % x.dim() for a in site.get("axes") or range(x.dim()))
        sizes = read_sizes(_at(given, sizes_slot))
        scales = read_scales(_at(given, scales_slot)) or site.get("scales")
        shape = [x.shape[a] for a in axes]
        goal, ratios = _fitted(site, shape, sizes) if sizes else _scaled(shape, scales)
        region = (read_roi(_at(given, 1)) if crops else None) or (0.0,) * len(axes) + (1.0,) * len(axes)
        for i, (axis, out, ratio) in enumerate(zip(axes, goal, ratios, strict=True)):
            window = region[i], region[i + len(axes)]
            if ratio != 1.0 or out != x.shape[axis] or window != (0.0, 1.0):
                matrix = weights(x.shape[axis], out, ratio, *window).to(x)
                moved = torch.movedim(x, axis, -1) @ matrix.t()
                if crops:
                    moved = moved + site.get("extrapolation_value", 0.0) * (1 - matrix.sum(1))
                x = torch.movedim(moved, -1, axis)
        return x

    return resize


def _is_old(site: Site) -> bool:
    return site.op_type == "Upsample" or site.version < 11


def _weights(site: Site, coordinates: str) -> Callable[[int, int, float, float, float], Tensor]:
    """Return the function from an axis' size, the size after it, the factor and the region to its matrix."""
    mode, crops = site.get("mode", "nearest"), coordinates == "tf_crop_and_resize"
    rounding = site.get("nearest_mode", "floor" if _is_old(site) else "round_prefer_floor")
    inside_only = bool(site.get("exclude_outside", 0))

    @lru_cache(maxsize=16)
    def weights(size: int, out: int, scale: float, start: float, end: float) -> Tensor:
        matrix = np.zeros((out, size))
        for row, place in enumerate(_places(coordinates, size, out, ratio=scale, start=start, end=end)):
            if crops and not 0 <= place <= size - 1:
                continue
            taps = _taps(mode, place, rounding, site.get("cubic_coeff_a", -0.75))
            for column, share in (tap for tap in taps if not inside_only or 0 <= tap[0] < size):
                matrix[row, min(max(column, 0), size - 1)] += share
            if inside_only:
                matrix[row] /= matrix[row].sum()
        return torch.from_numpy(matrix)

    return weights


def _at(inputs: Sequence[Tensor | None], slot: int) -> Tensor | None:
    return inputs[slot] if slot < len(inputs) else None


def _floats(site: Site, slot: int) -> Callable[[Tensor | None], tuple[float, ...] | None]:
    known = site.constant(slot)
    if known is not None:
        fixed = tuple(float(v) for v in known.reshape(-1).tolist())
        return lambda tensor: fixed
    return lambda tensor: None if tensor is None else tuple(tensor.reshape(-1).tolist())


def _scaled(shape: Sequence[int], scales: Sequence[float] | None) -> tuple[tuple[int, ...], tuple[float, ...]]:
    ratios = tuple(scales or (1.0,) * len(shape))
    return tuple(floor(n * r) for n, r in zip(shape, ratios, strict=True)), ratios


def _fitted(site: Site, shape: Sequence[int], sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    ratios = [out / n for out, n in zip(sizes, shape, strict=True)]
    policy = site.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return tuple(sizes), tuple(ratios)
    one = min(ratios) if policy == "not_larger" else max(ratios)
    return tuple(floor(n * one + 0.5) for n in shape), (one,) * len(shape)


def _places(mode: str, size: int, out: int, *, ratio: float, start: float, end: float) -> np.ndarray:
    """Return the position on the input axis of each element of the output axis."""
    # In float32, as in ONNX Runtime: which of two neighbours is nearer may hang on the last bit.
    line, scale = np.arange(out, dtype=np.float32), np.float32(ratio)
    if mode == "asymmetric":
        return line / scale
    if mode == "align_corners":
        return line * (size - 1) / (out - 1) if out > 1 else line * 0.0
    if mode == "pytorch_half_pixel" and out == 1:
        return line * 0.0
    if mode == "tf_half_pixel_for_nn":
        return (line + 0.5) / scale
    if mode == "tf_crop_and_resize":
        if out == 1:
            return np.array([0.5 * (start + end) * (size - 1)])
        return start * (size - 1) + line * (end - start) * (size - 1) / (out - 1)
    if mode == "half_pixel_symmetric":
        centre = size / 2 * (1 - out / (size * scale))
        return centre + (line + 0.5) / scale - 0.5
    return (line + 0.5) / scale - 0.5


def _taps(mode: str, place: float, rounding: str, a: float) -> list[tuple[int, float]]:
    """Return the positions that an element is made of, with their shares."""
    base = floor(place)
    rest = place - base
    if mode == "nearest":
        up = {"floor": 0.0, "ceil": rest > 0, "round_prefer_floor": rest > 0.5, "round_prefer_ceil": rest >= 0.5}
        return [(base + int(up[rounding]), 1.0)]
    if mode == "linear":
        return [(base, 1 - rest), (base + 1, rest)]
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (rest, 1 - rest)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (1 + rest, 2 - rest)]
    return [(base - 1, far[0]), (base, near[0]), (base + 1, near[1]), (base + 2, far[1])]


RULES: Mapping[str, Rule] = {
    "Resize": Rule(_resize, sizes=(1, 2, 3)),
    "Upsample": Rule(_resize, sizes=(1,)),
}
