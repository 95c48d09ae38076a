"""Models that the runtime's tools wrote, read back."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import onnx
import onnx_ir as ir

from onnxopt.model_file import from_proto, share_weights
from onnxopt.model_file.light import give_weights_back
from onnxopt.model_file.memory import IN_MEMORY_BYTES
from onnxopt.model_file.order import bodies_of, sort_nodes
from onnxopt.quantization.own_dequantizers import give_own_dequantizers, put_bias_scales_first
from onnxopt.quantization.zero_points import share_zero_points

_RUNTIME = "com.microsoft"
"""Domain of the runtime's own operators."""


class Built:
    """A model that a tool wrote.

    Args:
        model: the model, or a call that reads it: of several candidates most are only loaded.
        data: as below.
        op_types: operators of the model, those of its subgraphs and functions included.

    Attributes:
        data: what ONNX Runtime makes the same session of, in less time, so that the graph is not serialized once more;
            empty for a large model, whose bytes would be one more copy of its weights, and for one that was changed
            since.
    """

    def __init__(
        self, model: ir.Model | Callable[[], ir.Model], data: bytes = b"", op_types: Collection[str] = ()
    ) -> None:
        self._given, self.data, self._op_types = model, data, frozenset(op_types)

    @property
    def model(self) -> ir.Model:
        """The model, which is read in the first call."""
        if not isinstance(self._given, ir.Model):
            self._given = self._given()
        return self._given

    @property
    def op_types(self) -> frozenset[str]:
        """Operators of the model."""
        return self._op_types or frozenset(node.op_type for node in self.model.graph.all_nodes())


def built_from(
    proto: onnx.ModelProto, source: ir.Model, aside: Mapping[str, ir.TensorProtocol] = MappingProxyType({})
) -> Built:
    """Return the model in a protobuf of the runtime's tools, which is put in order.

    They append new nodes in no order. It is parsed again, because protobuf frees removed parts of a message, such as
    float weights, only with the whole.

    Args:
        proto: the protobuf.
        source: the model that it was made from, whose weights, name and notes the result shares.
        aside: weights that are inputs of the protobuf: the tool did not read them.

    Raises:
        ValueError: its nodes read each other in a circle.
    """
    bodies = list(bodies_of(proto))
    held = [list(body.node) for body in bodies]  # protobuf makes an object for a part each time that none is held
    if any(sort_nodes(body) is not None for body in bodies):
        raise ValueError("the graph has a circle")
    imported = {entry.domain for entry in proto.opset_import}
    if _RUNTIME not in imported and any(node.domain == _RUNTIME for nodes in held for node in nodes):
        # The tools declare this domain only for nodes in the main graph.
        proto.opset_import.add(domain=_RUNTIME, version=1)
    op_types = {node.op_type for nodes in held for node in nodes}
    share_zero_points(proto, bodies)
    data = proto.SerializeToString()

    def read() -> ir.Model:
        model = from_proto(onnx.load_model_from_string(data))
        if aside:
            give_weights_back(model, source, aside)
        share_weights(model, source)
        model.metadata_props.update(source.metadata_props)
        model.producer_name, model.producer_version = source.producer_name, source.producer_version
        return model

    if aside or len(data) > IN_MEMORY_BYTES:
        return Built(read(), op_types=op_types)
    changed = [give_own_dequantizers(proto), put_bias_scales_first(proto)]
    return Built(read, proto.SerializeToString() if any(changed) else data, op_types)


def forget_types(model: ir.Model) -> None:
    """Remove the types of inner values, in place.

    If shapes are known after its dynamic quantization operators, the runtime fuses Add and LayerNormalization into
    SkipLayerNormalization, which took a third longer in a small transformer.
    """
    for value in (v for node in model.graph for v in node.outputs if not v.is_graph_output()):
        value.type = value.shape = None


def forget_types_of(proto: onnx.ModelProto) -> None:
    """Do as `forget_types` in a protobuf."""
    graph = proto.graph
    inner, kept = {name for node in graph.node for name in node.output}, []
    for value in graph.value_info:
        if value.name in inner:
            value.ClearField("type")
        if value.name not in inner or value.doc_string or value.metadata_props:
            kept.append(value)
    del graph.value_info[:]
    graph.value_info.extend(kept)
