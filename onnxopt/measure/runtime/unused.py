"""Optimizers of ONNX Runtime that find nothing in a graph without the operators that they look for.

Each of them goes through all nodes all the same, some several times: a quarter of the time in which the runtime loads
20,000 quantized nodes.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

_NORMALIZED = ("LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "ReduceMean")

LOOKED_FOR: Mapping[str, Collection[str]] = MappingProxyType(
    {
        "TransposeOptimizer": ("Transpose",),
        "TransposeOptimizer_CPUExecutionProvider": ("Transpose",),
        "MatmulTransposeFusion": ("Transpose",),
        "ReshapeFusion": ("Reshape",),
        "SliceConcatToSpaceToDepthFusion": ("Slice", "Concat"),
        "GatherSliceToSplitFusion": ("Gather", "Slice"),
        "GatherToSliceFusion": ("Gather",),
        "EmbedLayerNormFusion": ("Gather",),
        "WhereDummyDq": ("Where",),
        "GeluFusionL1": ("Erf",),
        "GeluFusionL2": ("Erf",),
        "BiasGeluFusion": ("Erf", "Gelu", "FastGelu", "QuickGelu", "Tanh"),
        "FastGeluFusion": ("Tanh",),
        "QuickGeluFusion": ("Sigmoid",),
        "SwiGluFusion": ("Sigmoid", "QuickGelu", "Swish"),
        "LayerNormFusionL1": ("ReduceMean",),
        "LayerNormFusionL2": ("ReduceMean",),
        "SimplifiedLayerNormFusion": ("ReduceMean",),
        "SkipLayerNormFusion": _NORMALIZED,
        "BiasSkipLayerNormFusion": _NORMALIZED,
        "AttentionFusion": ("Softmax", *_NORMALIZED),
        "BiasSoftmaxFusion": ("Softmax",),
        "GroupQueryAttentionFusion": ("GroupQueryAttention",),
        "GroupQueryAttentionPreNormFusion": ("GroupQueryAttention",),
        "BiasDropoutFusion": ("Dropout", "BitmaskDropout"),
        "ConvActivationFusion": ("Conv", "FusedConv", "NhwcFusedConv"),
        "MatMulIntegerToFloatFusion": ("MatMulInteger",),
        "DynamicQuantizeMatMulFusion": ("DynamicQuantizeLinear", "MatMulInteger", "MatMulIntegerToFloat"),
        "MatMulScaleFusion": ("Mul", "Div"),
        "MatMulNBitsFusion": ("MatMulNBits",),
    }
)
"""Optimizers, by their names in the runtime, and operators without all of which each changes nothing.

A name that the runtime does not know is of no effect. Operators are those of a file: where one optimizer makes an
operator that another looks for, it makes it of operators that stand here for both.
"""

_CONVERSIONS = ("Cast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_ELEMENTWISE = (
    *("Abs", "Add", "And", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater"),
    *("HardSigmoid", "Identity", "LeakyRelu", "Less", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pow"),
    *("Reciprocal", "Relu", "Round", "Sigmoid", "Sin", "Sqrt", "Sub", "Sum", "Tanh", "Where"),
)
_LAYERS = (
    *("AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "GRU", "Gemm", "GlobalAveragePool"),
    *("GlobalMaxPool", "LSTM", "LayerNormalization", "MatMul", "MatMulInteger", "MaxPool", "QLinearConv"),
    *("QLinearMatMul", "RNN", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Softmax"),
)
_MOVES = (
    *("Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "If", "Loop", "Pad", "Reshape", "Resize"),
    *("Scan", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
_OWN = (
    *("DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearAdd"),
    *("QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul"),
    *("QLinearSigmoid", "QLinearSoftmax", "QLinearWhere"),
)
PLAIN = frozenset((*_CONVERSIONS, *_ELEMENTWISE, *_LAYERS, *_MOVES, *_OWN))
"""Operators with kernels of their own: for some others the runtime computes graphs of operators that no file shows."""


def without_work(op_types: Collection[str]) -> list[str]:
    """Return the optimizers that find nothing in a graph of these operators, those of its subgraphs included."""
    if not PLAIN.issuperset(op_types):
        return []
    return [name for name, operators in LOOKED_FOR.items() if not any(one in op_types for one in operators)]
