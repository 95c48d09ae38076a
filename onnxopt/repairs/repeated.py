"""Tensors that are stored twice or never read."""

from collections.abc import Iterator
from typing import ClassVar

import onnx_ir as ir

from onnxopt.model_file.streamed import checksum
from onnxopt.repairs.fault import Faults, Purpose, Repair
from onnxopt.repairs.unused import drop_unread
from onnxopt.target import Target

_LEAST_BYTES = 1024


class RepeatedWeights(Repair):
    """Store equal tensors once, and remove tensors without readers."""

    code: ClassVar[str] = "CHK410"
    does: ClassVar[str] = "store it once, or remove it if nothing reads it"
    purpose: ClassVar[Purpose] = Purpose.SIZE

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the names of duplicate and of unread tensors."""
        names = tuple(value.name or "" for value, _ in _spare(model))
        return Faults(names, names)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Redirect readers to the first of equal tensors."""
        for value, first in list(_spare(model)):
            if first is not None and value.name in found.sites:
                value.replace_all_uses_with(first)
        drop_unread(model)


def _spare(model: ir.Model) -> Iterator[tuple[ir.Value, ir.Value | None]]:
    """Yield removable stored values, and the equal one that is kept; None for a value without readers."""
    firsts = dict[bytes, ir.Value]()
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _LEAST_BYTES or value.is_graph_input() or value.is_graph_output():
            continue
        if not value.uses():
            yield value, None
            continue
        first = firsts.setdefault(checksum(tensor), value)
        if first is not value:
            yield value, first
