"""INT8 layers that can saturate on x86 without VNNI, and their results there.

Without VNNI, AVX2 and AVX-512 multiply unsigned by signed bytes with VPMADDUBSW, which adds neighbouring products along
the reduced axis in 16 bits that saturate. Depthwise convolutions multiply in 16 bits one by one and are not concerned.
"""

import numpy as np

LOW, HIGH = -32768, 32767
"""The sums of two products that 16 bits hold."""


def reduced(weights: np.ndarray) -> np.ndarray:
    """Return a convolution's weights (outputs, inputs, *kernel) as (outputs, *kernel * inputs), channels last.

    That is the order in which ONNX Runtime's quantized convolution, which works channels last, reduces them.
    """
    return np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
