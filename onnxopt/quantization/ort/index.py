"""The runtime's model class for its quantizers, with nodes and initializers indexed by name.

The original goes through all nodes or all initializers for every tensor that it quantizes: minutes for thousands of
layers.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel

from onnxopt.model_file.order import bodies_of
from onnxopt.model_file.proto import remove_parts

Nodes = dict[str, list[onnx.NodeProto]]


class IndexedModel(ONNXModel):  # type: ignore[misc]  # the runtime has no types
    """The same results; methods that the quantizers call for each tensor visit only the nodes and weights of it.

    Args:
        model: the model.
        outside: weights that its nodes read and that are not in it, by name; they are not changed.
    """

    def __init__(self, model: onnx.ModelProto, outside: Mapping[str, onnx.TensorProto] = MappingProxyType({})) -> None:
        super().__init__(model)
        self._outside = dict(outside)
        self._readers: Nodes | None = None
        self._writers: Nodes | None = None
        self._tensors = dict[str, onnx.TensorProto]()
        for tensor in model.graph.initializer:
            self._tensors.setdefault(tensor.name, tensor)
        self._tensors |= self._outside
        self._removed = list[onnx.TensorProto]()
        self._sought: Sequence[str] | None = None
        self._found, self._found_in, self._known = dict[str, onnx.NodeProto](), list[onnx.NodeProto](), 0

    def seek(self, names: Sequence[str] | None) -> None:
        """Restrict `initializer()` to the tensors with these names, which are those that the quantizer looks for."""
        self._sought = names

    @contextmanager
    def only(self, names: Sequence[str] | None) -> Iterator[None]:
        """Seek these names within the context."""
        before, self._sought = self._sought, names
        try:
            yield
        finally:
            self._sought = before

    def initializer(self) -> Any:
        """Return the tensors that are sought, else all."""
        if self._sought is None:
            self._drop_removed()
            own = super().initializer()
            return [*own, *self._outside.values()] if self._outside else own
        return [self._tensors[name] for name in dict.fromkeys(self._sought) if name in self._tensors]

    def get_initializer(self, name: str) -> onnx.TensorProto | None:
        """Return the tensor of a name."""
        return self._tensors.get(name)

    def get_initializer_name_set(self) -> set[str]:
        """Return the names of all tensors."""
        return set(self._tensors)

    def add_initializer(self, tensor: onnx.TensorProto) -> None:
        """Add a tensor, unless there is one of its name."""
        if tensor.name not in self._tensors:
            self.initializer_extend([tensor])

    def initializer_extend(self, inits: Sequence[onnx.TensorProto]) -> None:
        """Add tensors."""
        for tensor in inits:
            self._check_init(tensor)
            self.model.graph.initializer.append(tensor)
            self._tensors.setdefault(tensor.name, self.model.graph.initializer[-1])  # the graph holds a copy

    def add_array(self, name: str, kind: int, dims: Sequence[int], **data: Sequence[float]) -> onnx.TensorProto:
        """Return a new tensor, written in place, or the known one of its name.

        Args:
            name: its name.
            kind: its type, as in ONNX.
            dims: its shape.
            data: its numbers, under the field that holds them.
        """
        if name not in self._tensors:
            self._tensors[name] = self.model.graph.initializer.add(name=name, data_type=kind, dims=dims, **data)
        return self._tensors[name]

    def remove_initializer(self, tensor: onnx.TensorProto) -> None:
        """Remove a tensor; weights that are inputs too were frozen before."""
        known = self._tensors.pop(tensor.name, None)
        if known is not None and self._outside.pop(tensor.name, None) is None:
            self._removed.append(known)

    def _drop_removed(self) -> None:
        remove_parts(self.model.graph.initializer, self._removed)
        self._removed.clear()

    def clean_initializers(self) -> Any:
        """Remove the tensors that nothing reads, all at once, and return the original's result.

        It is the graph, and the names that are read and that nothing gives. Weights outside that nodes still read go
        into the model, which has all its nodes now.
        """
        graph = self.model.graph
        graphs = [body for body in bodies_of(self.model) if isinstance(body, onnx.GraphProto)]
        read = {name for some in graphs for node in some.node for name in node.input}
        read |= {value.name for some in graphs for value in some.output}
        read -= {name for node in graph.node for name in node.output}
        read |= {value.name for value in graph.input}
        graph.initializer.extend(tensor for name, tensor in self._outside.items() if name in read)
        self._outside.clear()
        unread = [tensor for tensor in graph.initializer if tensor.name not in read]
        remove_parts(graph.initializer, [*self._removed, *unread])
        self._removed.clear()
        if len(graphs) > 1:
            return super().clean_initializers()  # it copies every node, which changes nothing without subgraphs
        given = {part.name for some in (graph.initializer, graph.input) for part in some}
        return graph, {name for name in read if name and name not in given}

    def find_node_by_name(self, node_name: str, new_nodes_list: list[onnx.NodeProto], graph: object) -> Any:
        """Return the node of a name, in the graph or among new nodes, which grow at their end only."""
        if self._found_in is not new_nodes_list:
            self._found, self._found_in, self._known = {}, new_nodes_list, 0
            for node in self.model.graph.node:
                self._found.setdefault(node.name, node)
        for position in range(self._known, len(new_nodes_list)):
            self._found.setdefault(new_nodes_list[position].name, new_nodes_list[position])
        self._known = len(new_nodes_list)
        return self._found.get(node_name)

    def input_name_to_nodes(self) -> Nodes:
        """Return the nodes that read each value, a node once for each of its inputs."""
        if self._readers is None:
            self._readers = super().input_name_to_nodes()
        return self._readers

    def _written(self) -> Nodes:
        if self._writers is None:
            self._writers = {}
            for node in self.model.graph.node:
                for name in filter(None, node.output):
                    self._writers.setdefault(name, []).append(node)
        return self._writers

    def add_node(self, node: onnx.NodeProto) -> None:
        """Add a node at the end of the graph."""
        super().add_node(node)
        self._index(self.model.graph.node[-1])  # the graph holds a copy

    def write_node(self, op_type: str, inputs: Sequence[str], output: str, name: str, axis: int | None = None) -> None:
        """Write a node at the end of the graph, as `add_node` adds a copy of one."""
        node = self.model.graph.node.add(op_type=op_type, input=inputs, output=[output], name=name)
        if axis is not None:
            node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=axis)
        self._index(node)

    def _index(self, added: onnx.NodeProto) -> None:
        for known, names in ((self._readers, added.input), (self._writers, added.output)):
            if known is not None:  # else it is found when the index is made
                for name in filter(None, names):
                    known.setdefault(name, []).append(added)

    def remove_node(self, node: onnx.NodeProto) -> None:
        """Remove a node."""
        self.remove_nodes([node])

    def remove_nodes(self, nodes_to_remove: Collection[onnx.NodeProto]) -> None:
        """Remove nodes of this graph, all at once."""
        remove_parts(self.model.graph.node, nodes_to_remove)
        self._readers = self._writers = None

    def replace_node_input(self, node: onnx.NodeProto, old_input_name: str, new_input_name: str) -> None:
        """Replace one input of a node."""
        self._replace([node], old_input_name, new_input_name)

    def replace_input_of_all_nodes(self, old_input_name: str, new_input_name: str) -> None:
        """Replace a value in all its readers."""
        self._replace(self.input_name_to_nodes().get(old_input_name, []), old_input_name, new_input_name)

    def replace_input_of_nodes(self, old_input_name: str, new_input_name: str, node_names_set: Collection[str]) -> None:
        """Replace a value in those of its readers that have one of these names."""
        nodes = self.input_name_to_nodes().get(old_input_name, [])
        self._replace([node for node in nodes if node.name in node_names_set], old_input_name, new_input_name)

    def replace_output_of_all_nodes(self, old_output_name: str, new_output_name: str) -> None:
        """Replace a value in all nodes that write it."""
        nodes = self._written().pop(old_output_name, [])
        for node in nodes:
            ONNXModel.replace_node_output(node, old_output_name, new_output_name)
        self._written().setdefault(new_output_name, []).extend(nodes)

    def _replace(self, nodes: list[onnx.NodeProto], old: str, new: str) -> None:
        readers, nodes = self.input_name_to_nodes(), list(nodes)
        for node in nodes:
            ONNXModel.replace_node_input(node, old, new)
        readers[old] = [node for node in readers.get(old, []) if old in node.input]
        readers.setdefault(new, []).extend(nodes)
