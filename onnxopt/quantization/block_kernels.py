"""Kernels for weights in blocks that the installed runtime has: each is run once on a small weight, and compared."""

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.edit import set_weight
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.quantization.rounding.blockwise import round_to_nearest
from onnxopt.quantization.weight_products import DOMAIN

_ROWS = 16
_CLOSE = 0.05
"""Largest error of a right kernel, which rounds activations to 8 bits, over the size of its outputs."""


def product_missing(bits: int, block: int) -> str:
    """Return the reason why the runtime cannot multiply with weights of so many bits in blocks; "" if it can."""
    numbers = {"K": 2 * block, "N": _ROWS, "bits": bits, "block_size": block, "accuracy_level": 4}
    blocks = round_to_nearest(_weight(block), bits, block)
    x = np.random.default_rng(1).standard_normal((2, 2 * block), np.float32)
    return _missing("MatMulNBits", blocks.arrays(), numbers, x, x @ blocks.floats().T)


def table_missing(bits: int, block: int) -> str:
    """Return the reason why the runtime cannot look up rows of so many bits in blocks; "" if it can."""
    numbers = {"gather_axis": 0, "quantize_axis": 1, "bits": bits, "block_size": block}
    blocks, rows = round_to_nearest(_weight(block), bits, block), np.array([3, -1, 0], np.int64)
    return _missing("GatherBlockQuantized", blocks.rows(), numbers, rows, blocks.floats()[rows])


def _weight(block: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((_ROWS, 2 * block), np.float32)


def _missing(
    op: str, arrays: dict[str, np.ndarray], numbers: dict[str, int], x: np.ndarray, expected: np.ndarray
) -> str:
    """Return the reason why a node does not give `expected` for `x`; rows to look up come behind the integers."""
    place = 1 if x.dtype == np.int64 else 0
    given = ir.Value(name="x", shape=ir.Shape(x.shape), type=ir.TensorType(ir.DataType.from_numpy(x.dtype)))
    weights = [ir.Value(name=name) for name in arrays]
    for value, array in zip(weights, arrays.values(), strict=True):
        set_weight(value, array)
    attributes = [ir.AttrInt64(name, number) for name, number in numbers.items()]
    node = ir.Node(DOMAIN, op, [*weights[:place], given, *weights[place:]], attributes, name="tried")
    out = node.outputs[0]
    out.name, out.dtype, out.shape = "y", ir.DataType.FLOAT, ir.Shape(expected.shape)
    graph = ir.Graph([given], [out], nodes=[node], initializers=weights, opset_imports={"": 17, DOMAIN: 1}, name="one")
    try:
        (found,) = Session(ir.Model(graph, ir_version=8), Runtime()).run({"x": x})
    except (ModelError, NativeError):
        return f"the installed ONNX Runtime has no {op} of {numbers['bits']} bits in blocks of {numbers['block_size']}"
    wrong = float(np.linalg.norm(np.asarray(found) - expected)) > _CLOSE * float(np.linalg.norm(expected))
    return f"{op} of {numbers['bits']} bits gives wrong numbers in the installed ONNX Runtime" if wrong else ""
