"""Products whose weights are 4-bit NormalFloats of bitsandbytes (Dettmers et al. 2023, QLoRA): MatMulBnb4."""

import numpy as np
import onnx
import onnx_ir as ir

from onnxopt.graph.edit import add_weight
from onnxopt.model_file.streamed import Latest, streamed_tensors
from onnxopt.quantization.weight_products import DOMAIN, factor, take_place


class NormalFloats:
    """Writes MatMulBnb4 in the place of MatMul and Gemm; a weight of several is stored once.

    Args:
        model: edited in place.
        block: numbers of the transposed weight that share a largest magnitude.
        latest: for weights that are computed when they are written; None for now.
    """

    def __init__(self, model: ir.Model, block: int, latest: Latest | None) -> None:
        self._graph, self._block, self._latest = model.graph, block, latest
        self._stored = dict[tuple[str, bool], list[ir.Value]]()

    def replace(self, node: ir.Node) -> tuple[int, int]:
        """Replace a MatMul or Gemm with a constant matrix; return the bytes of its weight before and after."""
        weight, transposed = factor(node)
        assert weight is not None
        assert weight.const_value is not None
        before = weight.const_value.nbytes
        features, outputs = weight.const_value.shape.numpy()[:: -1 if transposed else 1]
        key = (weight.name or "", transposed)
        if key not in self._stored:
            self._stored[key] = self._store(weight, transposed)
        values = self._stored[key]
        numbers = {"K": features, "N": outputs, "block_size": self._block, "quant_type": _normal_float()}
        attributes = [ir.AttrInt64(name, int(value)) for name, value in numbers.items()]
        new = [ir.Node(DOMAIN, "MatMulBnb4", [node.inputs[0], *values], attributes, name=node.name)]
        take_place(node, new)
        return before, sum(v.const_value.nbytes for v in values if v.const_value is not None)

    def _store(self, weight: ir.Value, transposed: bool) -> list[ir.Value]:
        tensor = weight.const_value
        assert tensor is not None
        count = int(np.prod(tensor.shape.numpy()))
        forms = {
            "nf4": (ir.DataType.UINT8, (-(-count // 2),)),
            "absmax": (ir.DataType.FLOAT, (-(-count // self._block),)),
        }

        def packed(array: np.ndarray) -> dict[str, np.ndarray]:
            return packed_nf4(array.T if transposed else array, self._block)

        made, turned = streamed_tensors(tensor, packed, forms, self._latest), "t" if transposed else ""
        return [add_weight(self._graph, f"{weight.name}_{kind}{turned}", one) for kind, one in made.items()]


def packed_nf4(matrix: np.ndarray, block: int) -> dict[str, np.ndarray]:
    """Return a matrix (features, outputs) in 4-bit NormalFloats, and the largest magnitude of each block."""
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    integers, largest = MatMulBnb4Quantizer(onnx.ModelProto(), _normal_float(), block).bnb4_block_quant(
        np.ascontiguousarray(matrix)
    )
    return {"nf4": integers, "absmax": largest}


def _normal_float() -> int:
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    return int(MatMulBnb4Quantizer.NF4)
