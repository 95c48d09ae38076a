"""Convolutions as matrix products: every output position is one row of its inputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.windows import SAME, same_pads


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution; one number per spatial axis.

    Attributes:
        kernel: kernel sizes.
        auto_pad: `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`; `pads` are begins and ends otherwise.
        transposed: whether the stride first spreads the inputs, as in ConvTranspose.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"
    transposed: bool = False

    @classmethod
    def of(cls, node: ir.Node, kernel: tuple[int, ...], transposed: bool) -> "Window | None":
        """Read the attributes of a node; None for a transposed convolution with computed padding."""
        rank = len(kernel)

        def ints(name: str, default: int, count: int) -> tuple[int, ...]:
            found = node.attributes.get(name)
            return tuple(found.as_ints()) if found is not None else (default,) * count

        auto = node.attributes.get_string("auto_pad", "NOTSET")
        if transposed and (auto not in ("NOTSET", "VALID") or "output_shape" in node.attributes):
            return None
        pads = ints("pads", 0, 2 * rank) if auto == "NOTSET" else (0,) * (2 * rank)
        return cls(kernel, ints("strides", 1, rank), ints("dilations", 1, rank), pads, auto, transposed)


def unfold(
    window: Window, x: np.ndarray, y: np.ndarray, limit: int, seed: int | Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (rows, channels * kernel positions) and outputs (rows, outputs) at up to `limit` positions.

    Args:
        window: window of the convolution.
        x: shape (batch, channels, *spatial).
        y: shape (batch, outputs, *spatial).
        limit: most positions over the whole batch, chosen at random.
        seed: seed of that choice.
    """
    padded, extent = _padded(window, x, y.shape[2:])
    rank = len(extent)
    steps = (1,) * rank if window.transposed else window.strides
    patches = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=tuple(range(2, x.ndim)))
    every = slice(None)
    patches = patches[(every, every, *(slice(None, None, s) for s in (*steps, *window.dilations)))]
    patches = patches[(every, every, *(slice(n) for n in y.shape[2:]))]
    positions = (y.shape[0], *y.shape[2:])
    flat = np.arange(math.prod(positions))
    if len(flat) > limit:
        flat = np.sort(np.random.default_rng(seed).choice(len(flat), limit, replace=False))
    at = np.unravel_index(flat, positions)
    return np.moveaxis(patches, 1, rank + 1)[at].reshape(len(flat), -1), np.moveaxis(y, 1, -1)[at]


def _padded(window: Window, x: np.ndarray, out: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return padded inputs and the extent of the kernel with its dilations."""
    extent = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    rank = len(extent)
    if window.transposed:
        spread = tuple((n - 1) * s + 1 for n, s in zip(x.shape[2:], window.strides, strict=True))
        wide = np.zeros((*x.shape[:2], *spread), x.dtype)
        spots = (slice(None), slice(None), *(slice(None, None, s) for s in window.strides))
        wide[spots] = x
        begins = tuple(e - 1 - p for e, p in zip(extent, window.pads[:rank], strict=True))
        # Positions of output_padding lie after the end; negative padding cuts off the border instead.
        sizes = zip(out, extent, spread, begins, strict=True)
        ends = tuple(n + e - 1 - s - b for n, e, s, b in sizes)
        return _pad(wide, begins, ends), extent
    begins, ends = window.pads[:rank], window.pads[rank:]
    if window.auto_pad in SAME:
        pads = same_pads(window.auto_pad, x.shape[2:], window.kernel, window.strides, window.dilations)
        begins, ends = pads[:rank], pads[rank:]
    return _pad(x, begins, ends), extent


def _pad(x: np.ndarray, begins: tuple[int, ...], ends: tuple[int, ...]) -> np.ndarray:
    around = [(0, 0), (0, 0), *((max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True))]
    padded: np.ndarray = np.pad(x, around)
    inside = (slice(max(-b, 0), -max(-e, 0) or None) for b, e in zip(begins, ends, strict=True))
    return padded[(slice(None), slice(None), *inside)]
