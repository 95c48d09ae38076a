"""Conversion between the stored integers before DequantizeLinear and floats."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in

_INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight stored as integers.

    Attributes:
        name: name of the stored integers.
        value: name of the floats, the output of DequantizeLinear.
        scale: name of the scale, per tensor or per channel.
        shift: zero points, in a shape that broadcasts.
        shape: shape in which the scales broadcast.
        largest: largest distance of an integer from the zero point, per channel; training stays within it, so that
            integers of fewer bits keep their range.
        factors: names of the two scales whose product is the scale of a bias; () for a weight.
    """

    name: str
    value: str
    scale: str
    shift: np.ndarray
    shape: tuple[int, ...]
    largest: np.ndarray
    factors: tuple[str, ...] = ()

    def integers(self, floats: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the nearest integers, as int64."""
        steps = np.rint(floats.astype(np.float64) / scale.reshape(self.shape))
        return np.asarray((np.clip(steps, -self.largest, self.largest) + self.shift).astype(np.int64))


def quantized_weights(model: ir.Model) -> list[QuantizedWeight]:
    """Return the weights and biases of the main graph stored as integers, except those with scales per block."""
    return [found for node in model.graph if (found := _weight(node)) is not None]


def _weight(node: ir.Node) -> QuantizedWeight | None:
    if node.op_type != "DequantizeLinear" or len(node.inputs) < 2:
        return None
    stored, scale, zero = (*node.inputs, None)[:3]
    if stored is None or stored.const_value is None or scale is None or scale.const_value is None:
        return None
    if zero is not None and zero.const_value is None:
        return None
    bias = stored.const_value.dtype is ir.DataType.INT32
    integers, scales = stored.const_value.numpy(), scale.const_value.numpy()
    if not (bias or stored.const_value.dtype in _INTEGERS) or scales.ndim > 1 or scales.dtype != np.float32:
        return None
    axis = node.attributes.get_int("axis", 1)
    channels = scales.size > 1
    shape = tuple(-1 if channels and i == axis % integers.ndim else 1 for i in range(integers.ndim))
    shift = np.zeros((), np.int64) if zero is None else zero.const_value.numpy().astype(np.int64)  # type: ignore[union-attr]
    shift = shift.reshape(shape if shift.size > 1 else ())
    away = np.abs(integers.astype(np.int64) - shift)
    others = tuple(i for i, n in enumerate(shape) if n == 1)
    largest = np.full((), 2**31 - 1) if bias else away.max(axis=others, keepdims=True)
    names = (stored.name or "", node.outputs[0].name or "", scale.name or "")
    return QuantizedWeight(*names, shift, shape, largest, _factors(node) if bias else ())


def _factors(node: ir.Node) -> tuple[str, ...]:
    reader = next((n for n, slot in node.outputs[0].uses() if slot == 2), None)
    if reader is None:
        return ()
    sources = [v.producer() if v is not None else None for v in reader.inputs[:2]]
    if any(s is None or s.op_type != "DequantizeLinear" for s in sources):
        return ()
    return tuple(s.inputs[1].name or "" for s in sources if s is not None and s.inputs[1] is not None)


def in_floats(model: ir.Model, weights: list[QuantizedWeight], masters: Mapping[str, np.ndarray]) -> ir.Model:
    """Return a copy with float weights: `masters` by name of the integers; without an entry, the dequantized integers.

    Each float weight has the name of the output of its DequantizeLinear.
    """
    copy = model.clone()
    stored = {w.value: w for w in weights}
    for node in [n for n in copy.graph if n.outputs[0].name in stored]:
        weight, old = stored[node.outputs[0].name or ""], node.outputs[0]
        new = ir.Value(name=weight.value)
        set_weight(new, masters.get(weight.name, dequantized(model, weight)))
        old.replace_all_uses_with(new)
        copy.graph.remove(node, safe=True)
        copy.graph.register_initializer(new)
    return copy


def in_integers(
    model: ir.Model,
    weights: list[QuantizedWeight],
    floats: Mapping[str, np.ndarray],
    scales: Mapping[str, np.ndarray],
) -> ir.Model:
    """Return a copy of a quantized model with new weights, named as in `in_floats`, and new scales."""
    copy = model.clone()
    initializers = copy.graph.initializers
    for name, array in scales.items():
        _store(initializers[name], array)
    for weight in weights:
        scale = _array(copy, weight.scale)
        if len(weight.factors) == 2 and not scales.keys().isdisjoint(weight.factors):
            one, other = (_array(copy, name) for name in weight.factors)
            scale = (one * other).astype(np.float32).reshape(scale.shape)
            _store(initializers[weight.scale], scale)
        if weight.value in floats:
            value = initializers[weight.name]
            integers = weight.integers(floats[weight.value], scale)
            _store(value, integers.astype(_array(copy, weight.name).dtype))
    return copy


def dequantized(model: ir.Model, weight: QuantizedWeight) -> np.ndarray:
    """Return the dequantized integers of a weight."""
    steps = _array(model, weight.name).astype(np.int64) - weight.shift
    return np.asarray((steps * _array(model, weight.scale).reshape(weight.shape)).astype(np.float32))


def masters_of(
    model: ir.Model, weights: list[QuantizedWeight], originals: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the arrays of `originals` from which weights were quantized, by name of the integers."""
    found = {}
    for weight in weights:
        array = originals.get(weight.name.removesuffix("_quantized"))
        now = dequantized(model, weight)
        if array is None or array.shape != now.shape or array.dtype != np.float32:
            continue
        step = _array(model, weight.scale).reshape(weight.shape)
        # A clipped weight may have any value beyond the range.
        clipped = np.abs(now) >= (weight.largest - 0.1) * step
        if np.mean((np.abs(array - now) <= 0.51 * step) | clipped) > 0.99:
            found[weight.name] = array
    return found


def with_fewer_bits(
    model: ir.Model, weights: list[QuantizedWeight], masters: Mapping[str, np.ndarray], bits: int
) -> ir.Model:
    """Return a copy whose weights have `bits` bits, in unchanged storage, with error-minimizing scales."""
    top = 2 ** (bits - 1) - 1
    copy = model.clone()
    for weight in weights:
        if (
            weight.factors
            or weight.largest.ndim == 0
            or copy.graph.initializers[weight.name].dtype is ir.DataType.INT32
        ):
            continue
        floats = masters.get(weight.name, dequantized(model, weight)).astype(np.float64)
        others = tuple(i for i, n in enumerate(weight.shape) if n == 1)
        widest = np.maximum(np.abs(floats).max(axis=others, keepdims=True), 1e-12)
        best, least = widest / top, np.full(widest.shape, np.inf)
        for share in np.linspace(0.4, 1, 31):
            scale = share * widest / top
            error = ((np.clip(np.rint(floats / scale), -top, top) * scale - floats) ** 2).sum(
                axis=others, keepdims=True
            )
            best, least = np.where(error < least, scale, best), np.minimum(error, least)
        old = _array(model, weight.scale)
        _store(copy.graph.initializers[weight.scale], best.astype(np.float32).reshape(old.shape))
        steps = np.clip(np.rint(floats / best), -top, top).astype(np.int64) + weight.shift
        _store(copy.graph.initializers[weight.name], steps.astype(_array(model, weight.name).dtype))
    biases = [w for w in weights if w.factors]
    scales = {w.scale: _array(copy, w.scale) for w in weights if not w.factors}
    return in_integers(copy, biases, {b.value: dequantized(model, b) for b in biases}, scales)


def float_weights(model: ir.Model) -> dict[str, np.ndarray]:
    """Return the stored float arrays of a model by name."""
    return dict(_floats(model))


def _floats(model: ir.Model) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in model.graph.initializers.items():
        if value.const_value is not None and value.const_value.dtype is ir.DataType.FLOAT:
            yield name, value.const_value.numpy()


def _array(model: ir.Model, name: str) -> np.ndarray:
    tensor = tensor_in(model.graph.initializers[name])
    return np.asarray(tensor.numpy())


def _store(value: ir.Value, array: np.ndarray) -> None:
    tensor = value.const_value
    # Unchanged weights keep their tensors.
    if tensor is None or tensor.numpy().tobytes() != array.tobytes():
        set_weight(value, array)
