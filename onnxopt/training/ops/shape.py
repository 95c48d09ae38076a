"""Shapes as values, and tensors made from them."""

from collections.abc import Mapping

import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.training.ops.convert import DTYPES
from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands, known_or_read


def _shape(site: Site) -> Apply:
    part = slice(site.get("start", 0), site.get("end"))
    return lambda x: torch.tensor(x.shape[part], dtype=torch.int64, device=x.device)


def _constant_of_shape(site: Site) -> Apply:
    read, value = known_or_read(site, 0), site.get("value", torch.zeros(1))

    def apply(shape: Tensor) -> Tensor:
        return torch.full(read(shape) or (), value.item(), dtype=value.dtype, device=shape.device)

    return apply


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


def _eye_like(site: Site) -> Apply:
    offset, kind = site.get("k", 0), site.get("dtype")

    def apply(x: Tensor) -> Tensor:
        ones = torch.ones(x.shape, dtype=x.dtype if kind is None else DTYPES[ir.DataType(kind)], device=x.device)
        return torch.triu(torch.tril(ones, offset), offset)

    return apply


RULES: Mapping[str, Rule] = {
    "ConstantOfShape": Rule(_constant_of_shape, sizes=(0,)),
    "EyeLike": Rule(_eye_like),
    "Range": Rule(lambda site: _range, sizes=(0, 1, 2)),
    "Shape": Rule(_shape),
    "Size": as_it_stands(lambda x: torch.tensor(x.numel(), dtype=torch.int64, device=x.device)),
}
