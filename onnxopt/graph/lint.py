"""Lint of a model: findings with stable codes, read from the graph without running it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.model_file import signature_of
from onnxopt.model_file.streamed import array_of


class Level(Enum):
    """Severity of a finding."""

    ERROR = "error"
    WARNING = "warning"
    FACT = "fact"


RULES: Mapping[str, tuple[Level, str]] = MappingProxyType(
    {
        "CHK101": (Level.ERROR, "the file is not an ONNX model, or it is damaged"),
        "CHK102": (Level.ERROR, "the IR version or opset is not supported"),
        "CHK103": (Level.ERROR, "external data is missing, too short, damaged, or outside the model's folder"),
        "CHK104": (Level.ERROR, "the model is invalid"),
        "CHK105": (Level.ERROR, "ONNX Runtime cannot load the model"),
        "CHK201": (Level.FACT, "weights lie in external files, which must travel with the model"),
        "CHK202": (Level.WARNING, "operators outside the ONNX domains, which other runtimes may not support"),
        "CHK203": (Level.WARNING, "nodes without a name; options and reports cannot refer to them"),
        "CHK204": (Level.WARNING, "several nodes with the same name"),
        "CHK205": (Level.FACT, "inputs with dynamic sizes"),
        "CHK206": (Level.WARNING, "outputs without a type or a rank"),
        "CHK207": (
            Level.WARNING,
            "weights listed as inputs, which stops runtimes from folding constants; `repair` mends it",
        ),
        "CHK208": (Level.WARNING, "the opset is below 13; static quantization converts the model first"),
        "CHK301": (Level.ERROR, "weights that are NaN"),
        "CHK302": (Level.WARNING, "weights that are infinite"),
        "CHK303": (Level.WARNING, "denormal weights, which slow processors down several-fold; `simplify` flushes them"),
        "CHK304": (Level.WARNING, "computation in float64"),
        "CHK305": (Level.WARNING, "constants of 1 MiB or more inside nodes, which cannot be external data"),
        "CHK306": (Level.FACT, "operators that are already quantized"),
        "CHK307": (
            Level.WARNING,
            "integer layers whose sums of two products can exceed 16 bits on this processor, and then are wrong; "
            "`quantize` the float model for it",
        ),
        "CHK401": (
            Level.WARNING,
            "activations of an integer type without fast kernels on this processor; `repair` mends it",
        ),
        "CHK402": (Level.WARNING, "uint8 weights of products, which have slower kernels than int8; `repair` mends it"),
        "CHK403": (Level.WARNING, "MatMulNBits without accuracy_level 4, which computes in float; `repair` mends it"),
        "CHK404": (
            Level.WARNING,
            "products in a form that converts stored integers to floats in every run; `repair` mends it",
        ),
        "CHK405": (Level.WARNING, "stored integers that are converted to floats in every run; `repair` mends it"),
        "CHK406": (Level.WARNING, "convolutions that quantize their inputs in every run; `repair` mends it"),
        "CHK407": (Level.WARNING, "conversions to integers that no integer kernel reads; `repair` mends it"),
        "CHK408": (Level.WARNING, "weights stored as floats and quantized by a node in the graph; `repair` mends it"),
        "CHK409": (Level.WARNING, "float copies of weights that are also stored as integers; `repair` mends it"),
        "CHK410": (Level.FACT, "tensors that are stored twice or never read; `repair` mends it"),
        "CHK411": (
            Level.WARNING,
            "hard sigmoids, GELUs, scalings, lookups or shortcuts in several nodes; `repair` or `simplify` mends it",
        ),
        "CHK412": (
            Level.WARNING,
            "integer convolutions whose channels are no multiple of four, without a direct kernel; `repair` mends it",
        ),
    }
)
"""Level and meaning of every code; a code never changes its meaning.

CHK1 is validity, CHK2 portability, CHK3 numbers, CHK4 faults that `repair` mends.
"""

QUANTIZED_ALREADY = "it is already quantized; `onnxopt repair` mends quantized files that are slow or large"

OLD_OPSET = 13
LARGE_CONSTANT_BYTES = 1 << 20

_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_QUANTIZED = ("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantize", "QGemm", "QAttention")
_IN_BLOCKS = frozenset(("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GatherBlockQuantized"))


@dataclass(frozen=True)
class Finding:
    """A rule that a model breaks; `where` names nodes, values or files, `detail` adds the particulars."""

    code: str
    where: tuple[str, ...] = ()
    detail: str = ""

    @property
    def level(self) -> Level:
        """The severity of the finding."""
        return RULES[self.code][0]

    @property
    def meaning(self) -> str:
        """The meaning of the code, in words for the user."""
        return RULES[self.code][1]


def lint(model: ir.Model) -> tuple[Finding, ...]:
    """Return the findings of rules CHK2 and CHK3 in `model`; reads every weight."""
    return tuple(finding for rule in _RULES for finding in rule(model))


def _some(code: str, where: Sequence[str], detail: str = "") -> Iterator[Finding]:
    if where:
        yield Finding(code, tuple(where), detail)


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    return (node for graph in model.graphs() for node in graph)


def _weights(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for value in (v for graph in model.graphs() for v in graph.initializers.values()):
        if value.const_value is not None:
            yield value.name or "", value.const_value
    for node in _nodes(model):
        for attribute in _tensors(node):
            yield node.name or node.op_type, attribute


def _tensors(node: ir.Node) -> Iterator[ir.TensorProtocol]:
    return (a.as_tensor() for a in node.attributes.values() if a.type is ir.AttributeType.TENSOR)


def _files(model: ir.Model) -> Iterator[Finding]:
    tensors = (tensor for _, tensor in _weights(model) if isinstance(tensor, ir.ExternalTensor))
    return _some("CHK201", sorted({str(tensor.location) for tensor in tensors}))


def _operators(model: ir.Model) -> Iterator[Finding]:
    ours = {(key[0], key[1]) for key in model.functions}
    foreign = {f"{n.domain}::{n.op_type}" for n in _nodes(model) if n.domain not in _STANDARD and _key(n) not in ours}
    yield from _some("CHK202", sorted(foreign))
    yield from _some("CHK304", [_called(node) for node in _nodes(model) if _is_double(node)])
    quantized = Counter(n.op_type for n in _nodes(model) if is_quantized(n))
    yield from _some("CHK306", [f"{name} x{count}" for name, count in sorted(quantized.items())])


def _key(node: ir.Node) -> tuple[str, str]:
    return node.domain, node.op_type


def _is_double(node: ir.Node) -> bool:
    return any(v is not None and v.dtype is ir.DataType.DOUBLE for v in (*node.inputs, *node.outputs))


def is_quantized(node: ir.Node) -> bool:
    """Return whether an operator computes on integers that stand for floats, or converts to or from them."""
    return node.op_type.startswith(_QUANTIZED) or node.op_type.endswith("Integer") or node.op_type in _IN_BLOCKS


def _called(node: ir.Node) -> str:
    return node.name or f"{node.op_type} without a name"


def _names(model: ir.Model) -> Iterator[Finding]:
    nameless = Counter(node.op_type for node in _nodes(model) if not node.name)
    yield from _some("CHK203", [f"{name} x{count}" for name, count in sorted(nameless.items())])
    for graph in model.graphs():
        given = Counter(node.name for node in graph if node.name)
        yield from _some("CHK204", [name for name, count in given.items() if count > 1])


def _signature(model: ir.Model) -> Iterator[Finding]:
    graph = model.graph
    fed = signature_of(model).inputs
    yield from _some(
        "CHK205", [str(spec) for spec in fed if not all(isinstance(d, int) for d in spec.shape or (None,))]
    )
    # A sequence or a map has no rank; onnx-ir holds maps without a type, and says so in the value's metadata.
    bare = [v for v in graph.outputs if not v.metadata_props and (v.type is None or _needs_rank(v))]
    yield from _some("CHK206", [v.name or "" for v in bare])
    yield from _some("CHK207", [v.name or "" for v in graph.inputs if v.name in graph.initializers])
    opset = model.opset_imports.get("", OLD_OPSET)
    if opset < OLD_OPSET:
        yield Finding("CHK208", detail=f"opset {opset}")


def _needs_rank(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType) and value.shape is None


def _numbers(model: ir.Model) -> Iterator[Finding]:
    nan, infinite, denormal = [], [], []
    for name, tensor in _weights(model):
        if not tensor.dtype.is_floating_point() or tensor.dtype.itemsize < 2:
            continue
        array = array_of(tensor)
        if np.isnan(array).any():
            nan.append(name)
        if np.isinf(array).any() and not _masks(array):
            infinite.append(name)
        if tensor.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            count = np.count_nonzero((np.abs(array) < np.finfo(array.dtype).tiny) & (array != 0))
            denormal += [f"{name}: {count}"] if count else []
    yield from _some("CHK301", nan)
    yield from _some("CHK302", infinite)
    yield from _some("CHK303", denormal)


def _masks(array: np.ndarray) -> bool:
    """Return whether infinities are meant: a bound, or an attention mask of zeros and -inf."""
    return array.size == 1 or bool(np.all((array == 0) | np.isneginf(array)))


def _constants(model: ir.Model) -> Iterator[Finding]:
    large = [_called(n) for n in _nodes(model) if any(t.nbytes >= LARGE_CONSTANT_BYTES for t in _tensors(n))]
    return _some("CHK305", large)


_RULES: tuple[Callable[[ir.Model], Iterator[Finding]], ...] = (
    _files,
    _operators,
    _names,
    _signature,
    _numbers,
    _constants,
)
