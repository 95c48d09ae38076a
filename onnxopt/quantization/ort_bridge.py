"""The bridge to `onnxruntime.quantization`: typed options in, an onnx-ir model out.

The runtime's quantizer classes are called with ranges that were measured here, because its own calibrators keep every
activation of every sample in memory.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnxopt.errors import NativeError, first_line
from onnxopt.graph.edit import set_weight
from onnxopt.graph.shapes import with_types
from onnxopt.model_file import from_proto, to_proto
from onnxopt.quantization.ranges import Range

_FLOAT_WHERE_UNKNOWN = {"DefaultTensorType": int(ir.DataType.FLOAT)}
"""Shape inference stops at operators outside the standard set (scikit-learn's Scaler), which give floats."""


_NORMALIZATIONS = ("LayerNormalization", "InstanceNormalization", "BatchNormalization", "EmbedLayerNormalization")


@dataclass(frozen=True)
class StaticOptions:
    """How to quantize weights and activations to 8 bits."""

    format: str
    activation_type: str
    weight_type: str
    per_channel: bool
    reduce_range: bool
    op_types: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class DynamicOptions:
    """How to quantize weights to 8 bits; activations are quantized while the model runs."""

    weight_type: str
    per_channel: bool
    reduce_range: bool
    op_types: tuple[str, ...]
    exclude: tuple[str, ...]


def static_op_types() -> tuple[str, ...]:
    """Return the op types the runtime's static quantizer knows, less those that no INT8 kernel makes faster.

    Softmax, the normalizations and ArgMax would only lose precision; graphs of scikit-learn's break the quantizer there.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return tuple(sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax", "ArgMax", *_NORMALIZATIONS}))


def quantize_static(model: ir.Model, ranges: Mapping[str, Range], options: StaticOptions) -> ir.Model:
    """Quantize weights and activations with known ranges.

    Raises:
        NativeError: ONX402 the runtime's quantizer failed.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    symmetric = options.activation_type == "int8"
    data = TensorsData(
        CalibrationMethod.MinMax,
        {n: TensorData(lowest=np.float32(r.low), highest=np.float32(r.high)) for n, r in ranges.items()},
    )
    extra = {"ActivationSymmetric": symmetric, "WeightSymmetric": True, **_FLOAT_WHERE_UNKNOWN}
    with _quantizer_errors():
        proto = _ready(model)
        weight, activation = kinds[options.weight_type], kinds[options.activation_type]
        choice: tuple[Any, ...] = ([], list(options.exclude), list(options.op_types), extra)
        if options.format == "qoperator":
            mode = QuantizationMode.QLinearOps
            quantizer = ONNXQuantizer(
                proto, options.per_channel, options.reduce_range, mode, True, weight, activation, data, *choice
            )
        else:
            quantizer = QDQQuantizer(
                proto, options.per_channel, options.reduce_range, weight, activation, data, *choice
            )
        quantizer.quantize_model()
        return _back(quantizer.model.model, model)


def quantize_dynamic(model: ir.Model, options: DynamicOptions) -> ir.Model:
    """Quantize weights; activation scales are found at run time.

    Raises:
        NativeError: ONX402 the runtime's quantizer failed.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    weight = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[options.weight_type]
    with _quantizer_errors():
        quantizer = ONNXQuantizer(
            _ready(model),
            options.per_channel,
            options.reduce_range,
            QuantizationMode.IntegerOps,
            False,
            weight,
            QuantType.QUInt8,
            None,
            [],
            list(options.exclude),
            list(options.op_types),
            {"MatMulConstBOnly": True, **_FLOAT_WHERE_UNKNOWN},
        )
        quantizer.quantize_model()
        return _back(quantizer.model.model, model)


def _ready(model: ir.Model) -> onnx.ModelProto:
    # The quantizer leaves out every tensor whose type it does not know, and takes a Gemm's bias to be a vector.
    typed = with_types(model)
    for node in typed.graph:
        if node.op_type == "Gemm" and len(node.inputs) == 3:
            _broadcast_bias(node)
    return to_proto(typed)


def _broadcast_bias(gemm: ir.Node) -> None:
    weight, bias = gemm.inputs[1], gemm.inputs[2]
    if weight is None or bias is None or weight.const_value is None or bias.const_value is None:
        return
    transposed = gemm.attributes.get("transB")
    width = weight.const_value.numpy().shape[0 if transposed is not None and transposed.as_int() else 1]
    array = bias.const_value.numpy()
    if array.shape == (width,) or array.size not in (1, width):
        return
    # A new value: the old one may be shared with nodes that need its shape.
    own = ir.Value(name=f"{gemm.name}_bias")
    set_weight(own, np.broadcast_to(array.reshape(-1), (width,)))
    assert gemm.graph is not None
    gemm.graph.register_initializer(own)
    gemm.replace_input_with(2, own)


def _back(proto: onnx.ModelProto, source: ir.Model) -> ir.Model:
    result = from_proto(proto)
    result.graph.sort()  # the quantizer appends nodes in no order
    result.metadata_props.update(source.metadata_props)
    result.producer_name, result.producer_version = source.producer_name, source.producer_version
    return result


@contextmanager
def _quantizer_errors() -> Iterator[None]:
    # It reports on the root logger, which would print in the middle of our tables.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:  # ValueError, RuntimeError, KeyError, AssertionError, IndexError, ...
        raise NativeError(
            "ONX402", "ONNX Runtime's quantizer failed", why=f"{type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        root.setLevel(level)


def basic_optimized(model: ir.Model) -> ir.Model:
    """Return `model` after ONNX Runtime's basic graph optimizations: constants and batch-norms folded, dead nodes gone.

    Raises:
        NativeError: ONX401 the runtime failed.
    """
    import onnxruntime

    from onnxopt.model_file import materialize

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "basic.onnx"
        options.optimized_model_filepath = str(path)
        try:
            with materialize(model) as source:
                onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            return from_proto(onnx.load(str(path)))
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise NativeError("ONX401", "ONNX Runtime cannot optimize the model", why=first_line(error)) from error


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
        wrapped = OnnxModel(to_proto(with_types(model)))
        for pattern in patterns:
            fusions[pattern](wrapped).apply()
        wrapped.prune_graph()
        return _back(wrapped.model, model)
    except Exception as error:  # assertion, key and index errors on graphs it did not foresee
        raise NativeError("ONX401", "a fusion failed", why=f"{type(error).__name__}: {first_line(error)}") from error
    finally:
        quiet.setLevel(level)
