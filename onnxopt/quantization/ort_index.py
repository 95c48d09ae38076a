"""The runtime's model class for its QDQ quantizer, with an index of the readers of every value.

The original visits every node of the graph for every tensor that it quantizes: minutes for thousands of layers.
"""

from collections.abc import Collection

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel

Readers = dict[str, list[onnx.NodeProto]]


class IndexedModel(ONNXModel):  # type: ignore[misc]  # the runtime has no types
    """A model class with the same results; the methods called for each tensor visit only the readers of the tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        self._readers: Readers | None = None

    def input_name_to_nodes(self) -> Readers:
        """Return the nodes that read each value, once for each input."""
        if self._readers is None:
            self._readers = super().input_name_to_nodes()
        return self._readers

    def add_node(self, node: onnx.NodeProto) -> None:
        """Add a node at the end of the graph."""
        readers = self.input_name_to_nodes()
        super().add_node(node)
        added = self.model.graph.node[-1]  # the graph holds a copy
        for name in filter(None, added.input):
            readers.setdefault(name, []).append(added)

    def remove_node(self, node: onnx.NodeProto) -> None:
        """Remove a node."""
        super().remove_node(node)
        self._readers = None

    def replace_node_input(self, node: onnx.NodeProto, old_input_name: str, new_input_name: str) -> None:
        """Replace an input of one node."""
        self._replace([node], old_input_name, new_input_name)

    def replace_input_of_all_nodes(self, old_input_name: str, new_input_name: str) -> None:
        """Replace a value for all its readers."""
        self._replace(self.input_name_to_nodes().get(old_input_name, []), old_input_name, new_input_name)

    def replace_input_of_nodes(self, old_input_name: str, new_input_name: str, node_names_set: Collection[str]) -> None:
        """Replace a value for the readers with one of these names."""
        nodes = self.input_name_to_nodes().get(old_input_name, [])
        self._replace([node for node in nodes if node.name in node_names_set], old_input_name, new_input_name)

    def _replace(self, nodes: list[onnx.NodeProto], old: str, new: str) -> None:
        readers, nodes = self.input_name_to_nodes(), list(nodes)
        for node in nodes:
            ONNXModel.replace_node_input(node, old, new)
        readers[old] = [node for node in readers.get(old, []) if old in node.input]
        readers.setdefault(new, []).extend(nodes)
