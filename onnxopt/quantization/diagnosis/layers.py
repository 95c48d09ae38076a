"""Precision loss by layer: each layer alone, and all layers up to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isnan, log10, nan

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Activations, Arrays
from onnxopt.quantization.diagnosis.effect import Disturbed
from onnxopt.quantization.diagnosis.matching import counterparts
from onnxopt.quantization.kernels import executions
from onnxopt.quantization.outcome import WEIGHTED, read_back
from onnxopt.samples import Samples

_FED = "_from_float"


@dataclass(frozen=True)
class LayerLoss:
    """The precision loss of one layer.

    Attributes:
        output_db: signal-to-quantization-noise ratio of the model's outputs if only this layer is quantized, in dB; NaN
            if it has no quantized input, infinite if outputs do not change.
        own_db: signal-to-quantization-noise ratio of its output with the float model's activations as input, in dB; NaN
            if it has no quantized input.
        total_db: signal-to-quantization-noise ratio of its output with the quantized model's activations as input, in
            dB; NaN if the models have no such value in common.
        state: `INT8`, or the reason why it runs in float.
        kernel: the runtime's kernel; empty if the runtime removes the layer.
    """

    name: str
    op_type: str
    output_db: float
    own_db: float
    total_db: float
    state: str
    kernel: str = ""

    @property
    def quantized(self) -> bool:
        """Return whether the layer runs in INT8."""
        return self.state == "INT8"


def diagnose(model: ir.Model, quantized: ir.Model, samples: Samples) -> tuple[LayerLoss, ...]:
    """Return the layers of `quantized`, the one with the largest loss at the outputs first.

    Args:
        model: the float model, with node names as in `quantized`.
        quantized: the quantized model made from it.
        samples: samples to run both on.
    """
    outcome = read_back(model, quantized, (), {})
    runs = {layer.name: layer for layer in executions(model, quantized, {})}
    source, nodes = counterparts(quantized, model), {node.name: node for node in quantized.graph}
    outputs = dict[str, str]()
    for name in (*outcome.quantized, *outcome.left):
        node = nodes.get(name)
        value = node.outputs[0] if node is not None else None
        if value is not None and value.name in source:
            outputs[name] = value.name or ""
    alone, fed = _fed_by_float(quantized, source)
    int8 = {name: source[name] for name in sorted({outputs[n] for n in outcome.quantized if n in outputs})}
    effect = _effects(model, alone, int8, fed, samples)
    own = _noise(model, alone, int8, fed, samples)
    total = _noise(model, quantized, {name: source[name] for name in sorted(set(outputs.values()))}, {}, samples)
    kinds = {node.name: node.op_type for node in model.graph}
    found = [
        LayerLoss(
            name,
            kinds[name],
            effect.get(outputs.get(name, ""), nan) if name in outcome.quantized else nan,
            own.get(outputs.get(name, ""), nan) if name in outcome.quantized else nan,
            total.get(outputs.get(name, ""), nan),
            (runs[name].reason if name in runs else outcome.left.get(name)) or "INT8",
            runs[name].kernel if name in runs else "",
        )
        for name in (*outcome.quantized, *outcome.left)
    ]
    return tuple(sorted(found, key=_harm))


def _harm(loss: LayerLoss) -> tuple[bool, float, float]:
    # A layer that writes an output has no effect besides its own error.
    first = loss.own_db if isnan(loss.output_db) else loss.output_db
    return isnan(first), first, loss.own_db


def worst(losses: tuple[LayerLoss, ...], count: int) -> tuple[str, ...]:
    """Return the names of the `count` weighted INT8 layers with the largest loss at the outputs on their own."""
    weighted = [loss.name for loss in losses if loss.quantized and loss.op_type in WEIGHTED]
    return tuple(weighted[:count])


def _fed_by_float(quantized: ir.Model, source: Mapping[str, str]) -> tuple[ir.Model, dict[str, str]]:
    """Return a copy that quantizes the float model's activations, and the names fed by input."""
    alone = quantized.clone()
    fed, made = dict[str, str](), dict[str, ir.Value]()
    for node in [n for n in alone.graph if n.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")]:
        value = node.inputs[0]
        if value is None or value.producer() is None or (value.name or "") not in source:
            continue
        name = f"{value.name}{_FED}"
        if name not in made:
            kind = value.type or ir.TensorType(ir.DataType.FLOAT)
            made[name] = ir.Value(name=name, shape=value.shape, type=kind)
            alone.graph.inputs.append(made[name])
            fed[name] = source[value.name or ""]
        node.replace_input_with(0, made[name])
    return alone, fed


def _effects(
    model: ir.Model, alone: ir.Model, names: Mapping[str, str], fed: Mapping[str, str], samples: Samples
) -> dict[str, float]:
    """Return the SQNR in dB of the outputs of `model` with the error of one layer alone; arguments as in `_noise`."""
    disturbed = Disturbed(model, list(dict.fromkeys(names.values())))
    layers = {name: value for name, value in names.items() if value in disturbed.values}
    if not layers:
        return {}
    signal, noise = 0.0, dict.fromkeys(layers, 0.0)
    ours = Activations(model, list(dict.fromkeys((*layers.values(), *fed.values()))))
    theirs = Activations(alone, list(layers))
    for feeds in samples:
        (expected,) = ours.of([feeds])
        (found,) = theirs.of([{**feeds, **_given(alone, fed, expected)}])
        clean = disturbed.outputs(feeds, {})
        signal += sum(_power(y, np.zeros_like(y)) for y in clean)
        for name, value in layers.items():
            delta = np.zeros_like(expected[value])
            np.subtract(found[name], expected[value], out=delta, where=np.isfinite(expected[value]))
            changed = disturbed.outputs(feeds, {value: delta})
            noise[name] += sum(_power(y, c) for y, c in zip(clean, changed, strict=True))
    return {name: _decibels(signal, total) for name, total in noise.items()}


def _noise(
    model: ir.Model, quantized: ir.Model, names: Mapping[str, str], fed: Mapping[str, str], samples: Samples
) -> dict[str, float]:
    """Return the SQNR in dB of the values of `quantized` with a counterpart in `names`.

    Args:
        model: the float model.
        quantized: the quantized model, with additional inputs.
        names: values of `model` by values of `quantized`.
        fed: values of `model` by additional inputs of `quantized`.
        samples: samples to run both on.
    """
    if not names:
        return {}
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    ours = Activations(model, list(dict.fromkeys((*names.values(), *fed.values()))))
    theirs, bounds = Activations(quantized, list(names)), _bounds(model, names)
    for feeds in samples:
        (expected,) = ours.of([feeds])
        (found,) = theirs.of([{**feeds, **_given(quantized, fed, expected)}])
        for name, value in names.items():
            low, high = bounds.get(name, (-inf, inf))
            wanted = np.clip(expected[value].astype(np.float64), low, high)
            signal[name] += _power(wanted, np.zeros_like(wanted))
            noise[name] += _power(wanted, np.clip(found[name], low, high))
    return {name: _decibels(signal[name], noise[name]) for name in names}


def _given(model: ir.Model, fed: Mapping[str, str], found: Arrays) -> Arrays:
    """Return the additional inputs of `model` in its types: a 16-bit layer may be INT8 there."""
    kinds = {v.name: v.dtype.numpy() for v in model.graph.inputs if v.name in fed and v.dtype is not None}
    return {name: found[value].astype(kinds[name]) for name, value in fed.items()}


def _bounds(model: ir.Model, names: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Return the bounds of layer outputs whose only reader is a Relu or Clip.

    Quantization includes this clipping, so the clipped part is no error.
    """
    producers = {v.name: node for node in model.graph for v in node.outputs}
    found = dict[str, tuple[float, float]]()
    for name, value in names.items():
        node = producers.get(value)
        readers = [] if node is None else [use.node for use in node.outputs[0].uses()]
        if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
            found[name] = (0.0, inf) if readers[0].op_type == "Relu" else _limits(readers[0])
    return found


def _limits(clip: ir.Node) -> tuple[float, float]:
    limits = [-inf, inf]
    for slot in (1, 2):
        value = clip.inputs[slot] if slot < len(clip.inputs) else None
        if value is not None and value.const_value is not None:
            limits[slot - 1] = float(value.const_value.numpy().item())
    return limits[0], limits[1]


def _power(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the sum of squared differences where the float model gives numbers: masks and padding are -inf or NaN."""
    kept = np.isfinite(wanted)
    return float(np.square(wanted[kept].astype(np.float64) - found[kept]).sum())


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return inf
    if not noise < inf:  # NaN where the float model gives a number
        return -inf
    return 10 * log10(signal / noise) if signal else -inf


def names_in_common(model: ir.Model, quantized: ir.Model) -> int:
    """Return the number of weighted layers of `model` that `quantized` has, in any form."""
    return len(list(_common(model, quantized)))


def _common(model: ir.Model, quantized: ir.Model) -> Iterator[str]:
    there = {node.name for node in quantized.graph}
    for node in model.graph:
        if node.op_type in WEIGHTED and there & {f"{node.name}{s}" for s in ("", "_quant", "_MatMul_quant")}:
            yield node.name or ""
