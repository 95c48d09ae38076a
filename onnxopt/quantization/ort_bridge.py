"""The bridge to `onnxruntime.quantization`, with typed options and onnx-ir models.

The runtime's quantizer classes are called with our own ranges, because its calibrators keep every activation of every
sample in memory.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnxopt.errors import NativeError, first_line
from onnxopt.graph.shapes import with_types
from onnxopt.model_file import to_proto
from onnxopt.model_file.heap import without_collections
from onnxopt.model_file.light import give_weights_back, without_large_weights
from onnxopt.model_file.memory import IN_MEMORY_BYTES
from onnxopt.model_file.proto import bytes_of
from onnxopt.quantization.built import Built, built_from, forget_types_of
from onnxopt.quantization.calibration.histogram import Range
from onnxopt.quantization.placement.keep_float import has_float_layers, keep_float
from onnxopt.quantization.prepare import (
    activations_around,
    must_stay,
    name_inner_nodes,
    products_not_in,
    ready,
    unfit,
    upright,
)
from onnxopt.quantization.ready import Ready
from onnxopt.quantization.rounding.weight_ranges import safe_ranges

_FLOAT_WHERE_UNKNOWN = {"DefaultTensorType": int(ir.DataType.FLOAT)}
"""Output type of operators outside the standard set (scikit-learn's Scaler), at which shape inference stops."""
_UNREAD_BYTES = 1 << 20
"""Weights above this hold no scale or shift that a fusion looks at."""
FUSED_FROM = MappingProxyType({"gelu": "Erf", "layernorm": "ReduceMean"})
"""The operator at which the runtime looks for each pattern of `fuse`: without one there is none."""
_NORMALIZATIONS = ("LayerNormalization", "InstanceNormalization", "BatchNormalization", "EmbedLayerNormalization")


@dataclass(frozen=True)
class StaticOptions:
    """Options of quantizing weights and activations to 8 bits.

    Attributes:
        reduce_range: whether weights get 7 bits.
        avoid_saturation: whether signed weights are limited so that no sum of two products saturates in 16 bits.
        int16_activations: names of nodes whose activations get 16 bits; needs `form=qdq`.
    """

    form: str
    activation_type: str
    weight_type: str
    per_channel: bool
    reduce_range: bool
    op_types: tuple[str, ...]
    exclude: tuple[str, ...]
    avoid_saturation: bool = False
    int16_activations: tuple[str, ...] = ()


@dataclass(frozen=True)
class DynamicOptions:
    """Options of quantizing weights to 8 bits; activations are quantized at run time.

    Attributes:
        reduce_range: whether weights get 7 bits.
        avoid_saturation: whether signed weights are limited so that no sum of two products saturates in 16 bits;
            layers in sub-graphs get 7 bits for that.
    """

    weight_type: str
    per_channel: bool
    reduce_range: bool
    op_types: tuple[str, ...]
    exclude: tuple[str, ...]
    subgraphs: bool = False
    avoid_saturation: bool = False


def static_op_types() -> tuple[str, ...]:
    """Return the op types of the runtime's static quantizer, without those that INT8 kernels do not speed up.

    Softmax, the normalizations and ArgMax would only lose precision, and the quantizer fails on them in scikit-learn's
    graphs.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return tuple(sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax", "ArgMax", *_NORMALIZATIONS}))


def prepared_for_quantizer(typed: ir.Model, op_types: Sequence[str], ranges: Collection[str]) -> Ready:
    """Return a model with types, which is changed, as `quantize_static` takes it; the same for all exclusions.

    Args:
        typed: the model.
        op_types: operators to quantize.
        ranges: names of the tensors with a range.

    Raises:
        NativeError: ONX402 the model cannot be quantized.
    """
    with quantizer_errors():
        return Ready(ready(typed, op_types), ranges)


@without_collections()
def quantize_static(
    model: ir.Model, ranges: Mapping[str, Range], options: StaticOptions, prepared: Ready | None = None
) -> Built:
    """Quantize weights and activations with known ranges.

    Args:
        model: the model to quantize.
        ranges: the ranges by name of the tensor.
        options: the options.
        prepared: the result of `prepared_for_quantizer` for the model; made here by default.

    Raises:
        NativeError: ONX402 the runtime's quantizer failed.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.quant_utils import QuantizationMode

    from onnxopt.quantization.ort.operators import OperatorQuantizer
    from onnxopt.quantization.ort.pairs import PairQuantizer

    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    symmetric = options.activation_type == "int8"
    data = TensorsData(
        CalibrationMethod.MinMax,
        {n: TensorData(lowest=np.float32(r.low), highest=np.float32(r.high)) for n, r in ranges.items()},
    )
    extra: dict[str, Any] = {"ActivationSymmetric": symmetric, "WeightSymmetric": True, **_FLOAT_WHERE_UNKNOWN}
    with quantizer_errors():
        prepared = prepared or Ready(ready(with_types(model), options.op_types), ranges)
        typed, proto = prepared.model, prepared.proto()
        weight, activation = kinds[options.weight_type], kinds[options.activation_type]
        exclude = frozenset((*options.exclude, *unfit(typed), *must_stay(typed, options.form)))
        overrides = dict[str, Any]()
        if options.avoid_saturation:
            overrides |= safe_ranges(typed, options.op_types, exclude, options.per_channel)
        wide = QuantType.QInt16 if symmetric else QuantType.QUInt16
        overrides |= {
            name: [{"quant_type": wide}] for name in activations_around(typed, options.int16_activations, ranges)
        }
        if overrides:
            extra["TensorQuantOverrides"] = overrides
        choice: tuple[Any, ...] = ([], exclude, list(options.op_types), extra)
        if options.form == "qoperator":
            mode = QuantizationMode.QLinearOps
            quantizer = OperatorQuantizer(
                proto, options.per_channel, options.reduce_range, mode, True, weight, activation, data, *choice
            )
        else:
            quantizer = PairQuantizer(
                proto, options.per_channel, options.reduce_range, weight, activation, data, *choice
            )
        quantizer.quantize_model()
        mixed = has_float_layers(quantizer.model.model.graph)
        built = built_from(quantizer.model.model, model)
        return Built(built.model) if mixed and keep_float(built.model) else built


@without_collections()
def quantize_dynamic(model: ir.Model, options: DynamicOptions) -> Built:
    """Quantize weights; activation scales are found at run time.

    Raises:
        NativeError: ONX402 the runtime's quantizer failed.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.quant_utils import QuantizationMode

    from onnxopt.quantization.ort.operators import OperatorQuantizer

    weight = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[options.weight_type]
    with quantizer_errors():
        typed = ready(with_types(model), options.op_types)
        upright(typed)
        inner = name_inner_nodes(typed, options.op_types, frozenset(options.exclude))
        exclude = (*options.exclude, *inner, *unfit(typed), *products_not_in(typed, options.op_types))
        light, weights = without_large_weights(typed, _UNREAD_BYTES)
        aside = _unread(typed, weights, (*options.op_types, "MatMul"))
        quantizer = OperatorQuantizer(
            Ready(light).proto(),
            options.per_channel,
            options.reduce_range or options.avoid_saturation,
            QuantizationMode.IntegerOps,
            False,
            weight,
            QuantType.QUInt8,
            None,
            [],
            # The quantizer first converts every Gemm to a MatMul, under another name.
            frozenset((*exclude, *(f"{name}_MatMul" for name in exclude))),
            [*options.op_types, "MatMul"],
            {"MatMulConstBOnly": True, "EnableSubgraph": options.subgraphs, **_FLOAT_WHERE_UNKNOWN},
            weights={name: tensor for name, tensor in weights.items() if name not in aside},
            avoid_saturation=options.avoid_saturation,
        )
        del typed, light, weights
        quantizer.quantize_model()
        forget_types_of(quantizer.model.model)
        return built_from(quantizer.model.model, model, aside)


def _unread(
    model: ir.Model, weights: Mapping[str, ir.TensorProtocol], op_types: Collection[str]
) -> dict[str, ir.TensorProtocol]:
    """Return those of `weights` that no node of the types reads; none of a small model, where a copy costs little."""
    if sum(map(bytes_of, weights.values())) <= IN_MEMORY_BYTES:
        return {}
    values = model.graph.initializers
    return {n: t for n, t in weights.items() if all(node.op_type not in op_types for node, _ in values[n].uses())}


@contextmanager
def quantizer_errors() -> Iterator[None]:
    """Raise errors of the runtime's tools as NativeError ONX402, and keep their log off the terminal."""
    # It logs to the root logger, which would print between our tables.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"):  # NaN weights; the result is judged
            yield
    except Exception as error:  # ValueError, RuntimeError, KeyError, AssertionError, IndexError, ...
        raise NativeError(
            "ONX402", "ONNX Runtime's quantizer failed", why=f"{type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        root.setLevel(level)


def fuse(model: ir.Model, patterns: Sequence[str]) -> ir.Model:
    """Return `model` with decomposed `gelu` and `layernorm` patterns fused by `onnxruntime.transformers`.

    Raises:
        NativeError: ONX401 a fusion failed.
    """
    from onnxruntime.transformers.fusion_gelu import FusionGelu
    from onnxruntime.transformers.fusion_layernorm import FusionLayerNormalization
    from onnxruntime.transformers.onnx_model import OnnxModel

    fusions = {"gelu": FusionGelu, "layernorm": FusionLayerNormalization}
    quiet = logging.getLogger("onnxruntime.transformers")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        typed = with_types(model)
        light, weights = without_large_weights(typed, _UNREAD_BYTES)
        wrapped = OnnxModel(to_proto(light))
        for pattern in patterns:
            fusions[pattern](wrapped).apply()
        fused = built_from(wrapped.model, model).model
        give_weights_back(fused, typed, weights)
        # Its own pruning ignores the inputs of nested subgraphs.
        RemoveUnusedNodesPass()(fused)
        return fused
    except Exception as error:  # assertion, key and index errors on unforeseen graphs
        raise NativeError("ONX401", "a fusion failed", why=f"{type(error).__name__}: {first_line(error)}") from error
    finally:
        quiet.setLevel(level)
