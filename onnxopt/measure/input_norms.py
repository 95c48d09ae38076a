"""Norms of the inputs of weights, streamed: only the activations of one batch are in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from onnxopt.errors import DataError
from onnxopt.graph.edit import tensor_in
from onnxopt.graph.weights.sparsity import Weight
from onnxopt.graph.windows import SAME, same_pads
from onnxopt.measure.runtime.activations import Activations
from onnxopt.samples import Samples

Squares = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _InputReader:
    """The name of the value that a layer multiplies by a weight, and the sum of its squares per input feature."""

    source: str
    squares: Squares


def input_norms(
    model: ir.Model, weights: Sequence[Weight], samples: Samples
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the Euclidean norm of every input feature over all samples, and reasons for weights without one, by name.

    The shape is (features,) along the weight's inputs; for a convolution (groups, features * kernel positions), the
    norms of its unfolded input. The norms of a weight that several layers share cover the inputs of all.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
        DataError: ONX207 an activation is never a number.
    """
    readers, refused = dict[str, list[_InputReader]](), dict[str, str]()
    for weight in weights:
        name = weight.value.name or ""
        found = [_reader(node, slot, weight, model.graph) for node, slot in _layers(weight.value)]
        known = [r for r in found if isinstance(r, _InputReader)]
        if len(known) == len(found):
            readers[name] = known
        else:
            refused[name] = next(r for r in found if isinstance(r, str))
    sums = dict[str, np.ndarray]()
    sources = list(dict.fromkeys(r.source for every in readers.values() for r in every))
    numbers = dict.fromkeys(sources, False)
    for arrays in Activations(model, sources).of(samples.with_batch_size(1)) if sources else ():
        for name, every in readers.items():
            for reader in every:
                # Squares of large half-precision values would overflow.
                seen = arrays[reader.source].astype(np.float64)
                numbers[reader.source] |= bool(np.isfinite(seen).any())
                # NaN in padding rows and infinities of masks carry no information about a feature.
                squares = reader.squares(np.square(np.where(np.isfinite(seen), seen, 0.0)))
                sums[name] = sums.get(name, np.zeros(1)) + squares
    for source in (source for source in sources if not numbers[source] and sums):
        hint = "Check that the samples are preprocessed as the model expects."
        raise DataError("ONX207", "an activation is never a number for these samples", where=source, hint=hint)
    return {name: np.sqrt(total) for name, total in sums.items()}, refused


def _reader(node: ir.Node, slot: int, weight: Weight, graph: ir.Graph) -> _InputReader | str:
    if node.graph is not graph:
        return "its inputs are inside control flow, where they cannot be observed"
    if weight.axes is None:
        return "it has no single set of inputs: its weight is grouped, reshaped or shared"
    if node.op_type in ("LSTM", "GRU", "RNN") and slot != 1:
        return "the inputs of its recurrent weights cannot be observed"
    source = node.inputs[1 if slot == 0 else 0]
    if source is None or (source.producer() is None and not source.is_graph_input()):
        return "it reads no activation"
    shape = tuple(int(d) for d in tensor_in(weight.value).shape.numpy())
    if node.op_type == "Conv":
        return _InputReader(source.name or "", _unfolded(node, shape))
    return _InputReader(source.name or "", _along(_feature_axis(node, slot)))


def _layers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Yield the layers that multiply by a weight, also through Identity, Cast and Transpose."""
    for node, slot in value.uses():
        if slot == 0 and node.op_type in ("Identity", "Cast", "Transpose"):
            yield from _layers(node.outputs[0])
        else:
            yield node, slot


def _feature_axis(node: ir.Node, slot: int) -> int:
    if node.op_type == "ConvTranspose":
        return 1
    turned = node.attributes.get("transA" if slot == 1 else "transB")
    first = (turned is not None and turned.as_int() != 0) == (slot == 1)
    return -2 if first and node.op_type in ("Gemm", "MatMul") else -1


def _along(axis: int) -> Squares:
    def squares(x: np.ndarray) -> np.ndarray:
        at = max(axis, -x.ndim)  # a product with a vector has one axis
        return np.asarray(np.moveaxis(x, at, -1).reshape(-1, x.shape[at]).sum(axis=0))

    return squares


def _unfolded(node: ir.Node, shape: tuple[int, ...]) -> Squares:
    kernel, rank = shape[2:], len(shape) - 2

    def ints(name: str, default: int, count: int) -> list[int]:
        return list(node.attributes[name].as_ints()) if name in node.attributes else [default] * count

    strides, dilations, pads = ints("strides", 1, rank), ints("dilations", 1, rank), ints("pads", 0, 2 * rank)
    group = node.attributes.get_int("group", 1)
    auto = node.attributes.get_string("auto_pad", "NOTSET")

    def squares(x: np.ndarray) -> np.ndarray:
        used = pads if auto == "NOTSET" else [0] * 2 * rank
        if auto in SAME:
            used = list(same_pads(auto, x.shape[2:], kernel, strides, dilations))
        around, ends = [(0, 0)], list[int]()
        for axis, size in enumerate(x.shape[2:]):
            before, after = used[axis], used[rank + axis]
            around.append((before, after))
            ends.append(size + before + after - (kernel[axis] - 1) * dilations[axis])
        padded = np.pad(x.sum(axis=0), around)
        sums = np.empty((x.shape[1], *kernel))
        for position in np.ndindex(*kernel):
            starts = [p * d for p, d in zip(position, dilations, strict=True)]
            window = [slice(s, s + e, t) for s, e, t in zip(starts, ends, strides, strict=True)]
            sums[(slice(None), *position)] = padded[(slice(None), *window)].sum(axis=tuple(range(1, rank + 1)))
        return sums.reshape(group, x.shape[1] // group * prod(kernel))

    return squares
