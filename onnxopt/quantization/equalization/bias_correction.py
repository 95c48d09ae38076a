"""Empirical bias correction: the mean error of each quantized layer's output is subtracted from its bias.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2 with
measured means: layer by layer in graph order, so that each correction includes the earlier ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.stages import Stages
from onnxopt.quantization.diagnosis.matching import counterparts
from onnxopt.samples import Samples

CORRECTABLE = ("Conv", "Gemm")


def give_biases(model: ir.Model, names: Sequence[str]) -> None:
    """Add a zero bias to every convolution and Gemm in `names` without a bias, in place."""
    wanted = set(names)
    for node in model.graph:
        if node.op_type not in CORRECTABLE or node.name not in wanted or node.domain:
            continue
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            continue
        weight = node.inputs[1]
        if weight is None or weight.const_value is None or weight.const_value.dtype is not ir.DataType.FLOAT:
            continue
        inner = node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)
        bias = ir.Value(name=f"{weight.name}_bias_of_{node.name}")
        set_weight(bias, np.zeros(weight.const_value.shape.numpy()[1 if inner else 0], np.float32))
        model.graph.register_initializer(bias)
        node.resize_inputs(3)
        node.replace_input_with(2, bias)


def correct_biases(quantized: ir.Model, model: ir.Model, samples: Samples) -> dict[str, float]:
    """Correct the integer biases of `quantized` against its float `model`, in place.

    Returns:
        By layer, the largest correction of a channel, relative to the largest magnitude of its mean outputs.
    """
    layers = [node for node in quantized.graph if node.op_type in CORRECTABLE and _bias(node) is not None]
    source = counterparts(quantized, model)
    layers = [node for node in layers if node.outputs[0].name in source]
    if not layers:
        return {}
    wanted = _means(model, [source[node.outputs[0].name or ""] for node in layers], samples)
    done, stages = dict[str, float](), Stages(quantized, lambda: samples, len(layers))
    for node in layers:
        name = node.outputs[0].name or ""
        expected = wanted[source[name]]
        shift = expected - _mean({name: array} for array in stages.of(name))[name]
        bias, scale = _bias(node) or (None, None)
        assert bias is not None
        assert scale is not None
        steps = np.rint(shift / scale.astype(np.float64))
        if not steps.any():
            continue
        limit = np.iinfo(np.int32)
        corrected = np.clip(tensor_in(bias).numpy().astype(np.float64) + steps, limit.min, limit.max)
        set_weight(bias, corrected.astype(np.int32))
        largest = float(np.abs(expected).max())
        done[node.name or ""] = float(np.abs(shift).max()) / max(largest, 1e-12)
    return done


def _bias(node: ir.Node) -> tuple[ir.Value, np.ndarray] | None:
    """Return a layer's own int32 bias and its scale; None without one."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear" or len(producer.outputs[0].uses()) != 1:
        return None
    bias, scale = producer.inputs[0], producer.inputs[1]
    if bias is None or scale is None or bias.const_value is None or scale.const_value is None:
        return None
    if bias.const_value.dtype is not ir.DataType.INT32 or len(bias.uses()) != 1:
        return None
    return bias, scale.const_value.numpy()


def _means(model: ir.Model, names: Sequence[str], samples: Samples) -> dict[str, np.ndarray]:
    return _mean(Activations(model, names).of(samples))


def _mean(batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the mean of each value over all axes except its channels, axis 1: shape (channels,)."""
    sums, counts = dict[str, np.ndarray](), defaultdict[str, int](int)
    for arrays in batches:
        for name, array in arrays.items():
            rows = np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])
            sums[name] = sums.get(name, 0) + rows.sum(0, dtype=np.float64)
            counts[name] += len(rows)
    return {name: total / counts[name] for name, total in sums.items()}
