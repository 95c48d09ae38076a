"""INT8 layers that can saturate on x86 without VNNI, and their results there.

Without VNNI, AVX2 and AVX-512 multiply unsigned by signed bytes with VPMADDUBSW, which adds neighbouring products along
the reduced axis in saturating 16 bits. Depthwise convolutions multiply single values in 16 bits and are not affected.
"""

import numpy as np

LOW, HIGH = -32768, 32767
"""The range of sums of two products in 16 bits."""


def reduced(weights: np.ndarray) -> np.ndarray:
    """Return a convolution's weights (outputs, inputs, *kernel) as (outputs, *kernel * inputs), channels last.

    This is the reduction order of ONNX Runtime's quantized convolution, which works channels last.
    """
    return np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
