"""Tiny models and samples in memory for the tests of measuring."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxopt.model_file import from_proto
from onnxopt.samples import Samples


@dataclass
class ArraySource:
    """Arrays as a source of samples."""

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    name: str = "arrays"
    stacks: bool = True

    def __len__(self):
        return len(next(iter(self.inputs.values())))

    def read(self, index):
        return {key: array[index] for key, array in self.inputs.items()}


def samples_of(x, labels=None, batch_size=8, name="x"):
    return Samples.of(ArraySource({name: np.asarray(x)}, None if labels is None else np.asarray(labels)), batch_size)


def linear(weight, bias=None, *, activation=None, batch="n", output="scores") -> ir.Model:
    """`activation(x @ weight + bias)`: a linear classifier or regressor."""
    weight = np.asarray(weight, np.float32)
    bias = np.zeros(weight.shape[1], np.float32) if bias is None else np.asarray(bias, np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y" if activation else output], name="gemm")]
    if activation:
        nodes.append(helper.make_node(activation, ["y"], [output], name="activation"))
    return built(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, len(weight)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, weight.shape[1]])],
        {"w": weight, "b": bias},
    )


def built(nodes, inputs, outputs, weights=None, domains=()) -> ir.Model:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(*d) for d in domains)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=9)
    onnx.checker.check_model(proto)
    return from_proto(proto)


def slow_model(loops: int) -> ir.Model:
    """A chain of large matrix products; a second or more per run, in small steps."""
    nodes = [helper.make_node("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(loops)]
    value = helper.make_tensor_value_info
    return built(
        nodes,
        [value("v0", TensorProto.FLOAT, [256, 1024])],
        [value(f"v{loops}", TensorProto.FLOAT, [256, 1024])],
        {"w": np.zeros((1024, 1024), np.float32)},
    )


def zipmap() -> ir.Model:
    """scikit-learn's shape of a classifier: a label and a list of dictionaries, classes called 3, 5, 7."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]),
        helper.make_node("ArgMax", ["x"], ["index"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "index"], ["label"]),
        helper.make_node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 7]),
    ]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    return built(
        nodes,
        [value("x", TensorProto.FLOAT, ["n", 3])],
        [value("label", TensorProto.INT64, ["n"]), helper.make_value_info("probabilities", kind)],
        {"names": np.array([3, 5, 7])},
        (("ai.onnx.ml", 3),),
    )


@dataclass
class FakeClock:
    """Time that passes only when a fake run says so."""

    now_ns: int = 0
    calls: list = field(default_factory=list)

    def __call__(self):
        return self.now_ns

    def run(self, name, duration_ns):
        def work():
            self.calls.append(name)
            self.now_ns += int(duration_ns(self) if callable(duration_ns) else duration_ns)

        return work
