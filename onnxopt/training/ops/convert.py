"""Arrays to tensors and back, without changing a rank or a type."""

from collections.abc import Mapping
from types import MappingProxyType

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.samples import Feeds

DTYPES: Mapping[ir.DataType, torch.dtype] = MappingProxyType(
    {
        ir.DataType.FLOAT: torch.float32,
        ir.DataType.DOUBLE: torch.float64,
        ir.DataType.FLOAT16: torch.float16,
        ir.DataType.BFLOAT16: torch.bfloat16,
        ir.DataType.INT8: torch.int8,
        ir.DataType.INT16: torch.int16,
        ir.DataType.INT32: torch.int32,
        ir.DataType.INT64: torch.int64,
        ir.DataType.UINT8: torch.uint8,
        ir.DataType.UINT16: torch.uint16,
        ir.DataType.UINT32: torch.uint32,
        ir.DataType.UINT64: torch.uint64,
        ir.DataType.BOOL: torch.bool,
    }
)
"""Element types that torch can compute with."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def to_tensor(array: np.ndarray) -> Tensor:
    """Return a copy of `array` as a tensor."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.array(array.view(np.int16))).view(torch.bfloat16)
    # np.array keeps a rank of 0, which np.ascontiguousarray does not.
    return torch.from_numpy(np.array(array, order="C"))


def to_array(tensor: Tensor) -> np.ndarray:
    """Return a copy of `tensor` as an array."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return np.array(tensor.contiguous().view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(tensor.numpy())


def to_tensors(feeds: Feeds, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return one batch as tensors, by input name; images with their channels together, which convolves faster."""
    tensors = {name: to_tensor(array).to(device) for name, array in feeds.items()}
    return {name: x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for name, x in tensors.items()}
