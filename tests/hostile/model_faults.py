"""Small models with one fault each: kinds of fault, times the places in a model that can have it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


@dataclass(frozen=True)
class Fault:
    """The bytes of a model file, and a name of its base, place and fault."""

    name: str
    data: bytes


def info(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int) -> TensorProto:
    numbers = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return numpy_helper.from_array(numbers, name)


def mlp() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "fc", transB=1, alpha=1.0),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "out"),
    ]
    weights = [weight("w", 6, 4), weight("b", 6), weight("v", 6, 3)]
    return whole(nodes, [info("x", "n", 4)], [info("y", "n", 3)], weights)


def cnn() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "q"], ["n0"], "bn", epsilon=1e-5),
        helper.make_node("Relu", ["n0"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flat"),
    ]
    ones = [numpy_helper.from_array(np.ones(4, np.float32), name) for name in "somq"]
    return whole(nodes, [info("x", "n", 2, 6, 6)], [info("y", "n", 4)], [weight("w", 4, 2, 3, 3), *ones])


def branches() -> onnx.ModelProto:
    def one(op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["x", "k"], ["t"], f"in{op}")
        return helper.make_graph([node], op, [], [info("t", "n", 4)], [weight("k", 4)])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], "cast", to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["i"], "if", then_branch=one("Add"), else_branch=one("Mul")),
        helper.make_node("MatMul", ["i", "w"], ["y"], "out"),
    ]
    return whole(nodes, [info("x", "n", 4)], [info("y", "n", 3)], [weight("w", 4, 3)])


def functions() -> onnx.ModelProto:
    inner = [
        helper.make_node("Constant", [], ["k"], "const", value=weight("value", 4)),
        helper.make_node("Add", ["a", "k"], ["b"], "add"),
    ]
    function = helper.make_function("local", "Shift", ["a"], ["b"], inner, OPSETS[:1])
    nodes = [
        helper.make_node("Shift", ["x"], ["z"], "call", domain="local"),
        helper.make_node("MatMul", ["z", "w"], ["y"], "out"),
    ]
    return whole(nodes, [info("x", "n", 4)], [info("y", "n", 3)], [weight("w", 4, 3)], [function])


def whole(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[TensorProto],
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, functions=functions or [], opset_imports=OPSETS, ir_version=9)


BASES = (mlp, cnn, branches, functions)

HUGE = 1 << 40
_NUMBERS = (0, -1, 7, HUGE)
_INT32 = (0, 1, 99)
_FLOATS = (float("nan"), float("inf"), -1e38)
_TEXTS = ("", "x", "no such", "a\x1b[2Jb", "n" * 5000)


def every_fault() -> Iterator[Fault]:
    """Return each fault in each place of each base: every field of every message, lost, doubled or replaced."""
    for base in BASES:
        count = len(list(_places(base())))
        for place in range(count):
            for index, change in enumerate(_changes(base, place)):
                model = base()
                what = change(model)
                yield Fault(f"{base.__name__}-{place}-{index}-{what}", model.SerializeToString())


def _places(proto: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Return the fields that are set, depth first; the numbers of tensors are one place."""
    for field, value in proto.ListFields():
        yield proto, field
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _places(inner)


Change = Callable[[onnx.ModelProto], str]


def _changes(base: Callable[[], onnx.ModelProto], place: int) -> Iterator[Change]:
    def at(model: onnx.ModelProto) -> tuple[Message, FieldDescriptor]:
        return list(_places(model))[place]

    def lost(model: onnx.ModelProto) -> str:
        message, field = at(model)
        message.ClearField(field.name)
        return f"{field.name} lost"

    def doubled(model: onnx.ModelProto) -> str:
        message, field = at(model)
        values = getattr(message, field.name)
        values.append(values[0])
        return f"{field.name} doubled"

    def turned(model: onnx.ModelProto) -> str:
        message, field = at(model)
        values = [
            type(v).FromString(v.SerializeToString()) if isinstance(v, Message) else v
            for v in getattr(message, field.name)
        ]
        message.ClearField(field.name)
        getattr(message, field.name).extend(reversed(values))
        return f"{field.name} turned"

    def replaced(by: object) -> Change:
        def change(model: onnx.ModelProto) -> str:
            message, field = at(model)
            if _repeated(message, field):
                getattr(message, field.name)[0] = by
            else:
                setattr(message, field.name, by)
            return f"{field.name} {str(by)[:12]!r}"

        return change

    message, field = at(base())
    yield lost
    if _repeated(message, field):
        yield doubled
        if len(getattr(message, field.name)) > 1:
            yield turned
    yield from map(replaced, _values(field))


def _repeated(message: Message, field: FieldDescriptor) -> bool:
    return not isinstance(getattr(message, field.name), Message | str | bytes | int | float)


def _values(field: FieldDescriptor) -> tuple[object, ...]:
    kinds: dict[int, tuple[object, ...]] = {
        FieldDescriptor.TYPE_INT64: _NUMBERS,
        FieldDescriptor.TYPE_INT32: _INT32,
        FieldDescriptor.TYPE_FLOAT: _FLOATS,
        FieldDescriptor.TYPE_STRING: _TEXTS,
        FieldDescriptor.TYPE_BYTES: (b"\x7f\xc0\x00\x00" * 3,),
    }
    return kinds.get(field.type, ())
