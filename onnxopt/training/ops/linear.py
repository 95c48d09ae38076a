"""Products with weights: convolutions and matrices."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.graph.windows import split_padding
from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands
from onnxopt.training.ops.windows import fixed_pads, pads_for, torch_pads

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _conv(site: Site) -> Apply:
    pads, group = fixed_pads(site), site.get("group", 1)
    strides, dilations = site.get("strides"), site.get("dilations")

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = x.dim() - 2
        stride, dilation = strides or (1,) * rank, dilations or (1,) * rank
        around = pads if pads is not None else pads_for(site, x.shape[2:], weight.shape[2:], stride, dilation)
        begin, end = around[:rank], around[rank:]
        if begin != end:
            x, begin = F.pad(x, torch_pads(begin, end)), (0,) * rank
        return _CONV[rank](x, weight, bias, stride, begin or 0, dilation, group)

    return conv


def _conv_transpose(site: Site) -> Apply:
    group = site.get("group", 1)
    wanted, auto = site.get("output_shape"), site.get("auto_pad", "NOTSET")

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = x.dim() - 2
        stride, dilation = (site.get(name) or (1,) * rank for name in ("strides", "dilations"))
        extra, around = site.get("output_padding") or (0,) * rank, site.get("pads") or (0,) * (2 * rank)
        spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
        if wanted or auto.startswith("SAME"):
            around, extra = _cropping(wanted, auto, sizes=x.shape[2:], stride=stride, spans=spans, extra=extra)
        begin, end = tuple(around[:rank]), tuple(around[rank:])
        if begin == end and all(o < max(s, d) for o, s, d in zip(extra, stride, dilation, strict=True)):
            return _TRANSPOSED[rank](x, weight, bias, stride, begin, extra, group, dilation)
        full = _TRANSPOSED[rank](x, weight, bias, stride, 0, 0, group, dilation)
        # What lies beyond the last product holds the bias alone.
        added = full if not any(extra) else _grown(full, extra, bias)
        return F.pad(added, torch_pads([-b for b in begin], [-e for e in end]))

    return conv


def _grown(full: Tensor, extra: Sequence[int], bias: Tensor | None) -> Tensor:
    pads = torch_pads((0,) * len(extra), extra)
    if bias is None:
        return F.pad(full, pads)
    shift = bias.reshape(-1, *(1,) * len(extra))
    return F.pad(full - shift, pads) + shift


def _cropping(
    wanted: Sequence[int] | None,
    auto: str,
    *,
    sizes: Sequence[int],
    stride: Sequence[int],
    spans: Sequence[int],
    extra: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the pads, and the output padding, that give the requested output shape."""
    target = tuple(wanted)[-len(sizes) :] if wanted else tuple(n * s for n, s in zip(sizes, stride, strict=True))
    begin, end, grown = [], [], []
    for n, s, span, out, more in zip(sizes, stride, spans, target, extra, strict=True):
        total = s * (n - 1) + more + span - out
        grown.append(more - min(total, 0))
        first, last = split_padding(max(total, 0), auto)
        begin.append(first)
        end.append(last)
    return (*begin, *end), tuple(grown)


def _gemm(site: Site) -> Apply:
    alpha, beta = site.get("alpha", 1.0), site.get("beta", 1.0)
    left, right = bool(site.get("transA", 0)), bool(site.get("transB", 0))

    def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.t() if left else a, b.t() if right else b
        if c is None:
            return a @ b if alpha == 1.0 else alpha * (a @ b)
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return gemm


def _einsum(site: Site) -> Apply:
    equation = site.get("equation").replace(" ", "")
    return lambda *operands: torch.einsum(equation, *operands)


def _fused_matmul(site: Site) -> Apply:
    alpha, left, right = site.get("alpha", 1.0), site.get("transA", 0), site.get("transB", 0)
    if site.get("transBatchA", 0) or site.get("transBatchB", 0):
        raise site.refuse("its batch axes are transposed")
    turn: Callable[[Tensor, int], Tensor] = lambda x, on: x.transpose(-1, -2) if on and x.dim() > 1 else x  # noqa: E731
    return lambda a, b: alpha * torch.matmul(turn(a, left), turn(b, right))


RULES: Mapping[str, Rule] = {
    "Conv": Rule(_conv),
    "ConvTranspose": Rule(_conv_transpose),
    "Einsum": Rule(_einsum),
    "Gemm": Rule(_gemm),
    "MatMul": as_it_stands(torch.matmul),
}

CONTRIB: Mapping[str, Rule] = {"FusedMatMul": Rule(_fused_matmul)}
