"""One small graph per operator and per form of it, to be computed by torch and by ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxopt.model_file import from_proto

RNG = np.random.RandomState(0)


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.2, 2.0, shape).astype(np.float32)


def whole(low: int, high: int, *shape: int) -> np.ndarray:
    return RNG.randint(low, high, shape).astype(np.int64)


def bits(*shape: int) -> np.ndarray:
    return RNG.rand(*shape) > 0.5


def longs(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@dataclass(frozen=True)
class Case:
    """One node; inputs that are `fixed` are initializers."""

    op: str
    inputs: tuple[np.ndarray | None, ...]
    opset: int = 17
    outs: int = 1
    fixed: Sequence[int] = ()
    domain: str = ""
    attrs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        shapes = "x".join("-" if i is None else "".join(map(str, i.shape)) or "s" for i in self.inputs)
        return f"{self.op}{self.opset}[{shapes}]{attrs}".replace(" ", "")

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"i{n}": a for n, a in enumerate(self.inputs) if a is not None and n not in self.fixed}

    def model(self) -> ir.Model:
        names = ["" if a is None else f"i{n}" for n, a in enumerate(self.inputs)]
        outs = [f"o{n}" for n in range(self.outs)]
        node = helper.make_node(self.op, names, outs, name="node", domain=self.domain, **self.attrs)
        graph = helper.make_graph(
            [node],
            "case",
            [
                helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for k, a in self.feeds().items()
            ],
            [onnx.ValueInfoProto(name=out) for out in outs],
            [numpy_helper.from_array(self.inputs[n], f"i{n}") for n in self.fixed],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def case(op: str, *inputs: np.ndarray | None, **options: Any) -> Case:
    known = {k: options.pop(k) for k in ("opset", "outs", "fixed", "domain") if k in options}
    return Case(op, inputs, attrs=options, **known)


X4 = draw(2, 4, 7, 6)
UNARY = [
    *(case(op, draw(3, 4)) for op in ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Neg", "Round", "Sign", "Sin")),
    *(case(op, draw(3, 4)) for op in ("Atan", "Asinh", "Cosh", "Sinh", "Tan", "Identity", "IsNaN", "Size", "Shape")),
    *(case(op, positive(3, 4)) for op in ("Log", "Reciprocal", "Sqrt")),
    *(case(op, np.tanh(draw(3, 4))) for op in ("Acos", "Asin", "Atanh")),
    case("Acosh", 1 + positive(3, 4)),
    case("Not", bits(3, 4)),
    case("IsInf", np.array([1, np.inf, -np.inf], np.float32)),
    case("IsInf", np.array([1, np.inf, -np.inf], np.float32), detect_negative=0),
    case("BitwiseNot", whole(0, 99, 5), opset=18),
    case("Cast", draw(3, 4) * 9, to=TensorProto.INT32),
    case("Cast", whole(-2, 3, 5), to=TensorProto.BOOL),
    case("Cast", bits(5), to=TensorProto.FLOAT),
    case("CastLike", draw(3) * 9, longs(1)),
]
BINARY = [
    *(case(op, draw(2, 3, 4), draw(3, 1)) for op in ("Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less")),
    *(case(op, draw(2, 3), draw(3)) for op in ("GreaterOrEqual", "LessOrEqual")),
    *(case(op, bits(2, 3), bits(3)) for op in ("And", "Or", "Xor")),
    *(case(op, whole(0, 99, 4), whole(0, 99, 4), opset=18) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    case("Div", longs(7, -7, 9), longs(2, 2, -4)),
    case("Mod", longs(7, -7, 9), longs(2, 2, -4)),
    case("Mod", draw(5) * 9, positive(5), fmod=1),
    case("Mod", longs(7, -7, 9), longs(2, 2, -4), fmod=1),
    case("Pow", positive(3, 4), number(2), fixed=[1]),
    case("Pow", positive(3, 4), draw(4)),
    case("Pow", positive(3), longs(2, 3, 4)),
    case("Max", draw(3, 4), draw(4), draw(3, 1)),
    case("Min", draw(3, 4), draw(4)),
    case("Sum", draw(3, 4), draw(4), draw(1)),
    case("Mean", draw(3, 4), draw(4)),
    case("Where", bits(3, 1), draw(3, 4), draw(4)),
    case("Clip", draw(3, 4), number(-0.5), number(0.5), fixed=[1, 2]),
    case("Clip", draw(3, 4), None, number(0.5)),
    case("Clip", draw(3, 4), number(0.1)),
    case("Clip", draw(3, 4), opset=6, min=-0.5, max=0.25),
    case("PRelu", X4, draw(4, 1, 1)),
    case("Affine", draw(3), opset=9, alpha=2.0, beta=0.5),
    case("ImageScaler", draw(1, 3, 2, 2), opset=9, scale=2.0, bias=[0.1, 0.2, 0.3]),
]
ACTIVATIONS = [
    *(case(op, 3 * draw(4, 5)) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish")),
    *(case(op, 3 * draw(4, 5), alpha=0.7) for op in ("LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu")),
    *(case(op, 3 * draw(4, 5)) for op in ("LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "HardSigmoid")),
    case("HardSigmoid", 3 * draw(4, 5), alpha=0.25, beta=0.4),
    case("HardSigmoid", 3 * draw(4, 5), alpha=1 / 6, beta=0.5),
    case("Shrink", draw(9), lambd=0.4, bias=0.1),
    case("Mish", draw(9), opset=18),
    case("Gelu", draw(9), opset=20),
    case("Gelu", draw(9), opset=20, approximate="tanh"),
    case("Swish", draw(9), opset=24),
    case("Swish", draw(9), opset=24, alpha=0.5),
    *(case(op, draw(2, 3, 4), axis=axis) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, -1)),
    *(case(op, draw(2, 3, 4), opset=11) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    case("BiasGelu", draw(3, 4), draw(4), domain="com.microsoft"),
    case("FastGelu", draw(3, 4), draw(4), domain="com.microsoft"),
    case("Gelu", draw(3, 4), domain="com.microsoft"),
    case("QuickGelu", draw(3, 4), domain="com.microsoft", alpha=1.5),
]
K3 = draw(8, 4, 3, 3)
CONV = [
    case("Conv", X4, K3, draw(8)),
    case("Conv", X4, K3, pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", X4, K3, pads=[0, 1, 2, 1]),
    case("Conv", X4, K3, dilations=[2, 1], auto_pad="VALID"),
    *(case("Conv", X4, K3, auto_pad=auto, strides=[2, 2]) for auto in ("SAME_UPPER", "SAME_LOWER")),
    case("Conv", X4, draw(8, 2, 3, 3), draw(8), group=2),
    case("Conv", X4, draw(4, 1, 3, 3), group=4),
    case("Conv", draw(2, 4, 9), draw(6, 4, 3), pads=[1, 2]),
    case("Conv", draw(1, 2, 5, 6, 4), draw(3, 2, 3, 2, 2), pads=[1, 0, 1, 1, 1, 0]),
    case("ConvTranspose", X4, draw(4, 5, 3, 3), draw(5)),
    case("ConvTranspose", X4, draw(4, 5, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", X4, draw(4, 5, 3, 3), draw(5), strides=[2, 3], pads=[0, 1, 2, 1]),
    case("ConvTranspose", X4, draw(4, 2, 3, 3), group=2, dilations=[2, 2]),
    case("ConvTranspose", X4, draw(4, 5, 3, 3), strides=[2, 2], output_shape=[14, 12]),
    case("ConvTranspose", X4, draw(4, 5, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", X4, draw(4, 5, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", draw(2, 3, 7), draw(3, 4, 4), draw(4), strides=[3]),
    case("ConvTranspose", draw(1, 2, 3, 4, 3), draw(2, 2, 2, 2, 2), strides=[2, 1, 2]),
    case("Gemm", draw(3, 4), draw(4, 5)),
    case("Gemm", draw(4, 3), draw(5, 4), draw(5), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", draw(3, 4), draw(4, 5), draw(3, 1)),
    case("Gemm", draw(3, 4), draw(4, 5), number(0.5)),
    case("Gemm", draw(3, 4), draw(5, 4), draw(1), transB=1),
    case("MatMul", draw(2, 3, 4), draw(4, 5)),
    case("MatMul", draw(2, 1, 3, 4), draw(5, 4, 2)),
    case("MatMul", draw(4), draw(2, 4, 3)),
    case("MatMul", draw(4), draw(4)),
    case("Einsum", draw(2, 3, 4), draw(2, 4, 5), equation="b i j, bjk -> bik"),
    case("Einsum", draw(2, 3, 4), draw(4, 5), equation="...i,ij->...j"),
    case("Einsum", draw(3, 3), equation="ii->i"),
    case("FusedMatMul", draw(2, 3, 4), draw(2, 5, 4), domain="com.microsoft", transB=1, alpha=0.5),
]
POOL = [
    case("MaxPool", X4, kernel_shape=[2, 2]),
    case("MaxPool", X4, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", X4, kernel_shape=[3, 2], strides=[2, 2], pads=[0, 1, 1, 0]),
    case("MaxPool", X4, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", X4, kernel_shape=[2, 2], dilations=[2, 2]),
    case("MaxPool", X4, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("MaxPool", X4, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("MaxPool", draw(2, 3, 9), kernel_shape=[3], strides=[2]),
    case("MaxPool", draw(1, 2, 4, 5, 6), kernel_shape=[2, 2, 2]),
    case("AveragePool", X4, kernel_shape=[2, 2]),
    case("AveragePool", X4, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", X4, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", X4, kernel_shape=[3, 3], pads=[0, 1, 2, 0]),
    case("AveragePool", X4, kernel_shape=[3, 3], pads=[0, 1, 2, 0], count_include_pad=1),
    case("AveragePool", X4, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, opset=19),
    case("AveragePool", X4, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("AveragePool", draw(2, 3, 9), kernel_shape=[3], strides=[2]),
    case("LpPool", X4, kernel_shape=[3, 3], strides=[2, 2], p=2),
    *(case(op, X4) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    case("GlobalAveragePool", draw(2, 3, 9)),
]
NORM = [
    case("BatchNormalization", X4, draw(4), draw(4), draw(4), positive(4), epsilon=1e-3),
    case("BatchNormalization", draw(5, 4), draw(4), draw(4), draw(4), positive(4)),
    case("InstanceNormalization", X4, draw(4), draw(4), epsilon=1e-3),
    case("InstanceNormalization", draw(2, 3, 9), draw(3), draw(3)),
    case("LayerNormalization", draw(2, 3, 4), draw(4), draw(4), epsilon=1e-3),
    case("LayerNormalization", draw(2, 3, 4), draw(4)),
    case("LayerNormalization", draw(2, 3, 4), draw(3, 4), draw(3, 4), axis=1),
    case("GroupNormalization", X4, draw(2), draw(2), opset=18, num_groups=2),
    case("GroupNormalization", X4, draw(4), draw(4), opset=21, num_groups=2),
    case("RMSNormalization", draw(2, 3, 4), draw(4), opset=23),
    case("LRN", X4, size=3),
    case("LRN", X4, size=5, alpha=0.1, beta=0.5, bias=2.0),
    case("LpNormalization", draw(3, 4), axis=1, p=2),
    case("LpNormalization", draw(3, 4), axis=0, p=1),
    case("MeanVarianceNormalization", X4),
    case("SkipLayerNormalization", draw(2, 3, 4), draw(2, 3, 4), draw(4), draw(4), draw(4), domain="com.microsoft"),
]
REDUCERS = ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
REDUCE = [
    *(case(f"Reduce{r}", draw(2, 3, 4), axes=[1], keepdims=0) for r in REDUCERS if r != "Sum"),
    *(case(f"Reduce{r}", draw(2, 3, 4)) for r in REDUCERS),
    *(case(f"Reduce{r}", draw(2, 3, 4), longs(-1, 0), opset=18, fixed=[1], keepdims=0) for r in REDUCERS),
    case("ReduceLogSum", positive(2, 3, 4), axes=[2]),
    case("ReduceSum", draw(2, 3, 4), longs(0, 2), keepdims=0),
    case("ReduceSum", draw(2, 3), longs(), fixed=[1], noop_with_empty_axes=1),
    case("ReduceMean", whole(0, 9, 2, 3), axes=[1]),
    *(
        case(op, draw(3, 5), axis=axis, keepdims=keep)
        for op in ("ArgMax", "ArgMin")
        for axis, keep in ((0, 1), (-1, 0))
    ),
    case("ArgMax", longs(1, 3, 3, 2), axis=0, select_last_index=1),
    *(case("CumSum", draw(3, 4), longs(1), exclusive=e, reverse=r) for e in (0, 1) for r in (0, 1)),
]
MOVE = [
    case("Reshape", draw(2, 3, 4), longs(0, -1), fixed=[1]),
    case("Reshape", draw(2, 3, 4), longs(4, 6)),
    case("Reshape", draw(0, 3), longs(3, 0), fixed=[1], allowzero=1),
    *(case("Flatten", draw(2, 3, 4), axis=axis) for axis in (0, 1, 2, 3, -1)),
    case("Transpose", draw(2, 3, 4)),
    case("Transpose", draw(2, 3, 4), perm=[1, 2, 0]),
    case("Squeeze", draw(1, 3, 1)),
    case("Squeeze", draw(1, 3, 1), longs(0), fixed=[1]),
    case("Squeeze", draw(1, 3, 1), opset=11, axes=[2]),
    case("Unsqueeze", draw(3, 4), longs(0, -1), fixed=[1]),
    case("Unsqueeze", draw(3, 4), opset=11, axes=[1, 3]),
    case("Concat", draw(2, 3), draw(2, 1), axis=1),
    case("Concat", draw(2, 3), draw(4, 3), axis=-2),
    case("Split", draw(2, 7), longs(3, 4), fixed=[1], outs=2, axis=1),
    case("Split", draw(6, 2), outs=3),
    case("Split", draw(7, 2), opset=18, outs=3, num_outputs=3),
    case("Split", draw(6, 2), opset=11, outs=2, split=[2, 4]),
    case("Slice", draw(5, 6), longs(1, -4), longs(4, 999), longs(0, 1), longs(2, 1), fixed=[1, 2, 3, 4]),
    case("Slice", draw(5, 6), longs(4), longs(-999), longs(1), longs(-2), fixed=[1, 2, 3, 4]),
    case("Slice", draw(5, 6), longs(1, 0), longs(3, 2)),
    case("Slice", draw(5, 6), opset=9, starts=[1], ends=[-1], axes=[1]),
    case("Expand", draw(3, 1), longs(2, 1, 4), fixed=[1]),
    case("Expand", draw(3, 4), longs(1), fixed=[1]),
    case("Tile", draw(2, 3), longs(2, 3), fixed=[1]),
    case("Dropout", draw(3, 4)),
    case("Trilu", draw(4, 4), upper=0),
    case("Trilu", draw(4, 4), longs(1).reshape(()), fixed=[1]),
    *(case("DepthToSpace", draw(1, 8, 2, 3), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    case("SpaceToDepth", draw(1, 2, 4, 6), blocksize=2),
    case("ReverseSequence", draw(4, 3, 2), longs(1, 4, 2)),
    case("ReverseSequence", draw(3, 4), longs(1, 4, 2), batch_axis=0, time_axis=1),
    case("Crop", X4, opset=9, border=[1, 2, 1, 0]),
    case("Shape", draw(2, 3, 4), start=1, opset=15),
    case("ConstantOfShape", longs(2, 3), value=helper.make_tensor("v", TensorProto.INT64, [1], [7])),
    case("ConstantOfShape", longs(2, 3), fixed=[0]),
    case("Range", number(1), number(4), number(0.5)),
    case("EyeLike", draw(3, 4), k=1),
    case("EyeLike", draw(3, 4), dtype=TensorProto.INT64),
]
CHOOSE = [
    case("Gather", draw(3, 4), longs(2, 0, -1), fixed=[1]),
    case("Gather", draw(3, 4), whole(-4, 4, 2, 2), axis=1),
    case("Gather", draw(3, 4), np.array(-2, np.int64), fixed=[1], axis=1),
    case("Gather", draw(3, 4), np.array(1, np.int64)),
    case("GatherElements", draw(3, 4), whole(-3, 3, 2, 4)),
    case("GatherND", draw(3, 4, 5), whole(-3, 3, 2, 2)),
    case("GatherND", draw(2, 4, 5), whole(0, 4, 2, 1), batch_dims=1),
    case("ScatterElements", draw(3, 4), longs(2, 0, 1, -1).reshape(1, 4), draw(1, 4)),
    case("ScatterElements", draw(3, 4), whole(0, 3, 2, 4), draw(2, 4), opset=18, reduction="add"),
    case("ScatterElements", draw(3, 4), whole(0, 3, 2, 4), draw(2, 4), opset=18, reduction="max"),
    case("Scatter", draw(3, 4), longs(2, 0, 1, 1).reshape(1, 4), draw(1, 4), opset=9),
    case("ScatterND", draw(3, 4), longs(2, 0).reshape(2, 1), draw(2, 4)),
    case("ScatterND", draw(3), longs(2, 2).reshape(2, 1), draw(2), reduction="add"),
    case("OneHot", longs(0, 2, -1), longs(4).reshape(()), np.array([0, 5], np.float32), fixed=[1]),
    case("OneHot", whole(0, 3, 2, 3), longs(3), np.array([1, 2], np.float32), axis=1),
    case("TopK", draw(3, 5), longs(2), outs=2, fixed=[1]),
    case("TopK", draw(3, 5), longs(2), outs=2, fixed=[1], axis=0, largest=0),
    case("NonZero", np.array([[0, 1], [2, 0]], np.float32)),
    case("Compress", draw(3, 4), np.array([True, False, True]), axis=0),
    case("Compress", draw(2, 2), np.array([True, False, True])),
    *(case("Pad", draw(2, 3, 4), longs(0, 1, 2, 1, 0, 1), fixed=[1], mode=m) for m in ("constant", "edge", "reflect")),
    case("Pad", draw(2, 3, 4), longs(0, 1, 5, 1, 0, 9), fixed=[1], mode="wrap", opset=19),
    case("Pad", draw(2, 3, 4), longs(0, 1, -2, 1, 0, 1), number(2.5)),
    case("Pad", draw(2, 3), longs(1, 2), None, longs(-1), fixed=[1, 3], opset=18),
    case("Pad", draw(2, 3), opset=9, pads=[0, 1, 1, 0], value=0.5),
]
_MODES = [
    ("nearest", "asymmetric", {"nearest_mode": "floor"}),
    ("nearest", "half_pixel", {}),
    ("nearest", "half_pixel", {"nearest_mode": "round_prefer_ceil"}),
    ("linear", "half_pixel", {}),
    ("linear", "align_corners", {}),
    ("linear", "pytorch_half_pixel", {}),
    ("linear", "asymmetric", {}),
    ("cubic", "half_pixel", {}),
    ("cubic", "half_pixel", {"exclude_outside": 1, "cubic_coeff_a": -0.5}),
]
RESIZE = [
    *(
        case(
            "Resize",
            draw(1, 2, 5, 6),
            None,
            np.array([1, 1, *scale], np.float32),
            fixed=[2],
            mode=mode,
            coordinate_transformation_mode=places,
            **more,
        )
        for mode, places, more in _MODES
        for scale in ((2, 1.7), (0.6, 3))
    ),
    case("Resize", draw(1, 2, 5, 6), None, None, longs(1, 2, 8, 3), fixed=[3], mode="linear"),
    case("Resize", draw(1, 2, 5, 6), None, None, longs(8, 9), fixed=[3], opset=18, mode="linear", axes=[2, 3]),
    case(
        "Resize",
        draw(1, 1, 4, 5),
        np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.2], np.float32),
        None,
        longs(1, 1, 6, 7),
        fixed=[1, 3],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=9.0,
    ),
    case("Resize", draw(1, 2, 5, 6), np.array([1, 1, 2, 1.7], np.float32), fixed=[1], opset=10, mode="linear"),
    case("Upsample", draw(1, 2, 3, 4), np.array([1, 1, 2, 3], np.float32), fixed=[1], opset=9, mode="nearest"),
]
QUANTIZE = [
    case("QuantizeLinear", draw(3, 4), number(0.05), np.array(7, np.int8), fixed=[1, 2]),
    case("QuantizeLinear", draw(3, 4), number(0.013), np.array(131, np.uint8), fixed=[1, 2]),
    case("QuantizeLinear", draw(3, 4), number(0.02), fixed=[1]),
    case("QuantizeLinear", draw(3, 4), positive(4), np.zeros(4, np.int8), fixed=[1, 2]),
    case("DequantizeLinear", whole(-128, 128, 3, 4).astype(np.int8), positive(3), np.zeros(3, np.int8), axis=0),
    case("DequantizeLinear", whole(0, 256, 3, 4).astype(np.uint8), number(0.1), np.array(3, np.uint8)),
]
MASK = bits(3, 5) | (np.arange(5) == 0)
ATTENTION = [
    case("Attention", draw(2, 4, 3, 8), draw(2, 4, 5, 8), draw(2, 4, 5, 6), opset=23),
    case("Attention", draw(2, 4, 3, 8), draw(2, 2, 3, 8), draw(2, 2, 3, 8), opset=23, is_causal=1, scale=0.5),
    case("Attention", draw(2, 4, 3, 8), draw(2, 4, 5, 8), draw(2, 4, 5, 8), draw(3, 5), opset=23),
    case("Attention", draw(2, 4, 3, 8), draw(2, 4, 5, 8), draw(2, 4, 5, 8), MASK, opset=23, softcap=2.0),
    case("Attention", draw(2, 3, 8), draw(2, 5, 8), draw(2, 5, 8), opset=23, q_num_heads=2, kv_num_heads=2),
    case(
        "Attention",
        draw(2, 4, 3, 8),
        draw(2, 4, 2, 8),
        draw(2, 4, 2, 8),
        None,
        draw(2, 4, 3, 8),
        draw(2, 4, 3, 8),
        opset=23,
        outs=3,
    ),
]
ML = {"domain": "ai.onnx.ml"}
TABULAR = [
    case("Scaler", draw(3, 2), offset=[0.5, 1.0], scale=[2.0, 0.5], **ML),
    case("Scaler", draw(3, 2), offset=[0.5], scale=[2.0], **ML),
    *(case("Normalizer", draw(3, 4), norm=norm, **ML) for norm in ("L1", "L2")),
    case("Normalizer", positive(3, 4), norm="MAX", **ML),
    case("LinearRegressor", draw(3, 2), coefficients=[1.0, -2.0], intercepts=[0.5], **ML),
    case("LinearRegressor", draw(3, 2), coefficients=[1.0, -2.0, 3.0, 4.0], targets=2, **ML),
    *(
        case(
            "LinearClassifier",
            draw(5, 2),
            outs=2,
            coefficients=[1.0, -2.0, 3.0, 4.0, 0.5, 0.1],
            intercepts=[0.1, 0.2, 0.3],
            classlabels_ints=[3, 5, 8],
            post_transform=post,
            **ML,
        )
        for post in ("NONE", "SOFTMAX", "LOGISTIC")
    ),
    case("ArrayFeatureExtractor", draw(3, 4), longs(2, 0), **ML),
]


def _layer(kind: str, directions: int = 1, **attrs: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    names = {1: attrs.pop("direction", "forward"), 2: "bidirectional"}
    arrays = {
        "x": draw(5, 3, 4),
        "w": draw(directions, gates * 6, 4) / 2,
        "r": draw(directions, gates * 6, 6) / 2,
        "b": draw(directions, gates * 12) / 2,
        "lengths": np.array([5, 2, 3], np.int32),
        "h": draw(directions, 3, 6),
        "c": draw(directions, 3, 6),
        "p": draw(directions, 18) / 2,
    }
    return arrays, {"hidden_size": 6, "direction": names[directions], **attrs}


def _recurrent(kind: str, given: str, directions: int = 1, **attrs: Any) -> Case:
    arrays, attrs = _layer(kind, directions, **attrs)
    if attrs.get("layout"):
        arrays = {k: a.swapaxes(0, 1) if k in "xhc" else a for k, a in arrays.items()}
    slots = ["x", "w", "r", "b", "lengths", "h", "c", "p"]
    full = "full" in given
    chosen = ["x", "w", "r", *given.replace("full", "lengths").split()]
    last = max(slots.index(c) for c in chosen)
    inputs = [arrays[s] if s in chosen else None for s in slots[: last + 1]]
    fixed = [1, 2]
    if full:
        inputs[4] = np.array([5, 5, 5], np.int32)
        fixed.append(4)
    return case(kind, *inputs, outs=3 if kind == "LSTM" else 2, fixed=fixed, **attrs)


RECURRENT = [
    *(_recurrent(k, "", 1) for k in ("LSTM", "GRU", "RNN")),
    *(_recurrent(k, "b h" if k != "LSTM" else "b h c", n) for k in ("LSTM", "GRU", "RNN") for n in (1, 2)),
    *(_recurrent(k, "b", 1, direction="reverse") for k in ("LSTM", "GRU", "RNN")),
    *(_recurrent("GRU", "b h", n, linear_before_reset=1) for n in (1, 2)),
    _recurrent("GRU", "b", 1, linear_before_reset=1, direction="reverse"),
    *(_recurrent(k, "b lengths", n) for k in ("LSTM", "GRU", "RNN") for n in (1, 2)),
    _recurrent("GRU", "b lengths", 1, linear_before_reset=1, direction="reverse"),
    *(_recurrent(k, "b full", 2) for k in ("LSTM", "GRU", "RNN")),
    _recurrent("LSTM", "b p", 2),
    _recurrent("LSTM", "b", 1, input_forget=1),
    _recurrent("LSTM", "b", 1, clip=0.5),
    _recurrent("LSTM", "b", 1, activations=["HardSigmoid", "Tanh", "Relu"]),
    _recurrent("RNN", "b", 2, activations=["Relu", "Relu"]),
    _recurrent("RNN", "b", 2, activations=["Relu", "Tanh"]),
    _recurrent("RNN", "b", 1, activations=["LeakyRelu"], activation_alpha=[0.3]),
]
CASES = [*UNARY, *BINARY, *ACTIVATIONS, *CONV, *POOL, *NORM, *REDUCE, *MOVE, *CHOOSE, *RESIZE, *QUANTIZE, *ATTENTION]
CASES += [*TABULAR, *RECURRENT]

REFUSED = {
    "if_branches": {"If"},
    "nested_capture": {"If"},
    "trees_only": {"ai.onnx.ml.TreeEnsembleRegressor"},
    "lightgbm_clf": {"ai.onnx.ml.TreeEnsembleClassifier"},
    "silero_vad": {"If"},
    "skl_rf": {"ai.onnx.ml.TreeEnsembleClassifier"},
    "skl_svc": {"ai.onnx.ml.SVMClassifier"},
    "sklearn_forest_digits": {"ai.onnx.ml.TreeEnsembleClassifier"},
    "tract_qlstm": {"QLinearConv"},
    "xgboost_clf": {"ai.onnx.ml.TreeEnsembleClassifier"},
}
"""Operators that keep these builder models and files from being trained."""
