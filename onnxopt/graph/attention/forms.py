"""Target forms of attention: a standard node, a node of the runtime, or linear attention."""

import numpy as np
import onnx_ir as ir

from onnxopt.graph.attention.edit import Flat, added
from onnxopt.graph.attention.find import Attention
from onnxopt.graph.node_writer import NodeWriter

STANDARD_SINCE = 23
"""The opset that introduced Attention."""
DOMAIN = "com.microsoft"
_FLOAT = ir.DataType.FLOAT


def standard(write: NodeWriter, _found: Attention, flat: Flat) -> ir.Value:
    """Write the standard's Attention."""
    inputs = [flat.query, flat.key, flat.value]
    if (bias := flat.bias()) is not None:
        inputs.append(bias)
    return write("Attention", *inputs, scale=flat.scale, q_num_heads=flat.heads, kv_num_heads=flat.key_heads)


def runtime(write: NodeWriter, found: Attention, flat: Flat) -> ir.Value:
    """Write ONNX Runtime's MultiHeadAttention."""
    inputs = [flat.query, flat.key, flat.value]
    bias = [None, None, one] if (one := flat.bias()) is not None else []
    made = write("MultiHeadAttention", *inputs, *bias, domain=DOMAIN, num_heads=flat.heads, scale=flat.scale)
    if not found.cleared:
        return made
    nothing = write("IsNaN", made, kind=ir.DataType.BOOL)
    return write("Where", nothing, write.constant(0.0, np.float32), made, kind=_FLOAT)


def linear(write: NodeWriter, found: Attention, flat: Flat) -> ir.Value:
    """Write an attention whose work grows with the number of queries and keys, not with their product.

    phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)) with phi(x) = elu(x) + 1, after Katharopoulos et al., "Transformers are
    RNNs", ICML 2020; a mask weighs each key by the exponential of the value that it adds to the key's scores.
    """

    def apart(value: ir.Value, size: int) -> ir.Value:
        return write("Transpose", write("Reshape", value, write.constant([0, 0, flat.heads, size])), perm=[0, 2, 1, 3])

    def positive(value: ir.Value) -> ir.Value:
        return write("Add", write("Elu", apart(value, flat.size)), write.constant(1.0, np.float32))

    query, key, value = positive(flat.query), positive(flat.key), apart(flat.value, flat.value_size)
    for mask in found.masks:
        weights = write("Exp", added(write, mask, cleared=False))
        key = write("Mul", key, write("Transpose", weights, perm=[0, 1, 3, 2]))
    key = write("Transpose", key, perm=[0, 1, 3, 2])
    above = write("MatMul", query, write("MatMul", key, value))
    below = write("MatMul", query, write("ReduceSum", key, write.constant([3])))
    mean = write("Transpose", write("Div", above, below), perm=[0, 2, 1, 3])
    return write("Reshape", mean, write.constant([0, 0, flat.heads * flat.value_size]))
