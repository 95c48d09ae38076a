"""Padding."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, known_or_read
from onnxopt.training.ops.windows import torch_pads


def _pad(site: Site) -> Apply:
    mode = site.get("mode", "constant")
    stated, filler = site.get("pads"), site.get("value", 0.0)
    read_pads, read_axes = known_or_read(site, 1), known_or_read(site, 3)
    known = site.constant(2)
    fill = filler if known is None else known.item()

    def pad(x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        amounts = stated if stated is not None else read_pads(pads) or ()
        chosen = read_axes(axes) or tuple(range(x.dim()))
        begin, end = [0] * x.dim(), [0] * x.dim()
        for i, axis in enumerate(chosen):
            begin[axis], end[axis] = amounts[i], amounts[i + len(chosen)]
        if mode == "constant":
            return F.pad(x, torch_pads(begin, end), value=fill if value is None or known is not None else value.item())
        for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
            if before or after:
                x = x.index_select(axis, _places(mode, x.shape[axis], before, after).to(x.device))
        return x

    return pad


def _places(mode: str, size: int, before: int, after: int) -> Tensor:
    """Return from where on an axis each element of the padded one is taken."""
    line = torch.arange(-before, size + after)
    if mode == "edge":
        return line.clamp(0, size - 1)
    if mode == "wrap":
        return line % size
    period = max(2 * (size - 1), 1)
    back = line % period
    return torch.where(back < size, back, period - back)


RULES: Mapping[str, Rule] = {"Pad": Rule(_pad, sizes=(1, 3))}
