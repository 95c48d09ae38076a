"""Padding of sliding windows, as convolutions and poolings state it."""

from collections.abc import Sequence

from onnxopt.graph.windows import same_pads
from onnxopt.training.ops.rule import Site


def fixed_pads(site: Site) -> tuple[int, ...] | None:
    """Return the stated pads, those of all axes' beginnings first; () for none, None where the input decides."""
    auto = site.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return ()
    return tuple(site.get("pads") or ()) if auto == "NOTSET" else None


def pads_for(
    site: Site, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Return the pads that keep the size up to the stride, for an input of `sizes`."""
    return same_pads(site.get("auto_pad"), sizes, kernel, strides, dilations)


def torch_pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Return pads in torch's order: the last axis first, beginning and end in turn."""
    return [n for pair in reversed([*zip(begin, end, strict=True)]) for n in pair]
