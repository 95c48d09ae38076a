"""Padding of sliding windows, with ONNX's `auto_pad` where it depends on the input size."""

from collections.abc import Sequence

import onnx_ir as ir

SAME = ("SAME_UPPER", "SAME_LOWER")


def split_padding(total: int, auto_pad: str) -> tuple[int, int]:
    """Return the padding at the beginning and the end of an axis; `auto_pad` places an odd element.

    Source: the ONNX specification of Conv and ConvTranspose, attribute `auto_pad`.
    """
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def same_pads(
    auto_pad: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Return the pads for outputs of size `ceil(size / stride)`, the beginnings of all axes first."""
    pads = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        steps = -(-size // stride) - 1
        pads.append(split_padding(max(steps * stride + (k - 1) * dilation + 1 - size, 0), auto_pad))
    return (*(begin for begin, _ in pads), *(end for _, end in pads))


def is_padded(node: ir.Node) -> bool:
    """Return whether windows may reach beyond the input; with SAME padding that depends on its size."""
    pads = node.attributes.get_ints("pads", ()) or ()
    return any(pads) or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
