"""INT8 layers that can saturate on x86 without VNNI, and their results there.

Without VNNI, AVX2 and AVX-512 multiply unsigned by signed bytes with VPMADDUBSW, which adds neighbouring products along
the reduced axis in saturating 16 bits. Depthwise convolutions multiply single values in 16 bits and are not affected;
those with several outputs per channel are products over the window.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.aligned_channels import AT_ONCE

LOW, HIGH = -32768, 32767
"""The range of sums of two products in 16 bits."""
MOST_PAIR = HIGH // 255
"""Largest sum of two neighbouring integers of equal sign whose products with unsigned bytes fit into 16 bits."""

CONVOLUTIONS = ("Conv", "QLinearConv")


def multiplies_singly(node: ir.Node, shape: Sequence[int]) -> bool:
    """Return whether a layer with weights of this shape is a depthwise convolution with one output per channel."""
    return node.op_type in CONVOLUTIONS and shape[1] == 1 and 1 < shape[0] == node.attributes.get_int("group", 1)


def reduced(weights: np.ndarray) -> np.ndarray:
    """Return a convolution's weights (outputs, inputs, *kernel) as (outputs, *kernel * inputs), channels last.

    This is the reduction order of ONNX Runtime's quantized convolution, which works channels last.
    """
    return np.moveaxis(weights, 1, -1).reshape(len(weights), -1)


def neighbours_in_windows(shape: Sequence[int]) -> list[np.ndarray]:
    """Return the neighbours of every reduction order of a convolution, each of shape (pairs, 2).

    Channels come last, as they are or with zeros up to a multiple of four (see `aligned_channels`).

    Args:
        shape: shape of the weight, (outputs, inputs, *kernel); places are those of its flat rows.
    """
    places = np.arange(int(np.prod(shape[1:]))).reshape(shape[1], -1).T
    wide = np.pad(places, ((0, 0), (0, -shape[1] % AT_ONCE)), constant_values=-1)
    orders = [places, wide] if shape[1] % 2 else [places]
    pairs = [neighbours_in_rows(order.reshape(1, -1)) for order in orders]
    return [two[(two >= 0).all(1)] for two in pairs]


def neighbours_in_rows(places: np.ndarray) -> np.ndarray:
    """Return the neighbours of rows of places, shape (pairs, 2); the last place of an odd row has none."""
    return places[:, : places.shape[1] // 2 * 2].reshape(-1, 2)
